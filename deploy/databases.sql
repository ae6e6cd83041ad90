-- One server of PostgreSQL, a database for each part. Run once, by whoever may create databases.
CREATE DATABASE dagster;
CREATE DATABASE feedback;
CREATE DATABASE server;
