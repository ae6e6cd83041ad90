"""What belongs together and so stays in one split: named groups, look-alike images, near-equal texts; and what is kept.

`named` reads what the source says of groups and splits of its own, `look_alikes` and `near_texts` find what it does not
say, `groups` merges all of it, `memory` keeps what was drawn before, and `apart` looks at what came out.
"""
