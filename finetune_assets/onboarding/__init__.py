"""A first task out of somebody's data: what lies there, what each column is for, and how its rows would be read.

`survey` looks, `proposal` proposes, `preview` reads as the pipeline will, `conversation` lets a person correct it.
Nothing is ever guessed silently: each proposal is shown with ten examples before a file is written.
"""
