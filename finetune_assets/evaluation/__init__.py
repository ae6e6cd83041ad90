"""Numbers, and how sure we are of them: answers, scores, intervals, calibration, the benchmark and its pictures."""
