"""What a careful reader would stumble over in the texts of an example, though every provider takes them.

A model repeats what it learnt, keys included; and text that an earlier program broke is learnt broken. As in the other
rules, each appends `(code, message)` to `found`. No secret is repeated in a message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from finetune_assets.training_file.findings import Problem
from finetune_assets.training_file.messages import Message

_SECRETS = {  # By a character that they need: the search for one character costs nothing. Then how each begins.
    "-": (
        ("an OpenAI or Anthropic key", "sk-", re.compile(r"(?<![\w-])sk-[A-Za-z0-9_-]{20,}")),
        ("a Slack token", "xox", re.compile(r"(?<!\w)xox[abprs]-[A-Za-z0-9-]{10,}")),
        ("a private key", "-----BEGIN", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ),
    "_": (
        ("a GitHub token", "gh", re.compile(r"(?<!\w)gh[pousr]_[A-Za-z0-9]{36}")),
        ("a GitHub token", "github_pat_", re.compile(r"(?<!\w)github_pat_\w{50}")),
        ("a Hugging Face token", "hf_", re.compile(r"(?<!\w)hf_[A-Za-z0-9]{30,}")),
    ),
    ".": (("a signed token (JWT)", "eyJ", re.compile(r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),),
    "A": (
        ("an AWS key", "AKIA", re.compile(r"(?<![A-Za-z0-9])AKIA[0-9A-Z]{16}(?![A-Za-z0-9])")),
        ("a Google key", "AIza", re.compile(r"(?<![\w-])AIza[\w-]{35}")),
    ),
}
_SPECIAL = re.compile(
    r"<[|\uff5c][A-Za-z][\w\u2581-]{0,40}[|\uff5c]>|<(?:start|end)_of_(?:turn|image|utterance)>"
    r"|<(?:bos|eos|pad|unk|image|video|audio)>|</?s>|\[/?INST\]|<</?SYS>>"
)
"""How models of all makers spell their control tokens. The local server reads them as text; others do not say."""
_INLINED = re.compile(r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/]{100}")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_MOJIBAKE = re.compile(
    "Ã[\x80-\xbf]|Â[\x80-\xbf]|â€[\x80-\xbf\u2018-\u203a\u0152-\u0178™œ]|ðŸ"
    "|(?:[\u0420\u0421][\xa0-\xbb\u0401-\u040f\u0451-\u045f\u0490\u0491\u2013-\u203a\u20ac\u2116\u2122]){3}"
    "|(?:[ã-é][\x80-\xbf\u2013-\u203a\u0152-\u0178™œ]{2}){2}"
)
"""UTF-8 that was read as Latin-1 or Windows-1252; of Cyrillic, as Windows-1251; of Chinese or Japanese, two letters."""
_INVISIBLE = re.compile("[\x80-\x9f\u2060\u202d\u202e\ufeff\ufffe\uffff]"
                        "|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b")  # fmt: skip
"""Not among them: joiners, which emoji and several scripts need, and the breaks between words of Thai and Khmer."""


def texts_of(messages: Sequence[Message]) -> str:
    """Join the texts of messages and the arguments of their calls."""
    texts = [text for message in messages for text in message.texts]
    texts += [call.arguments for message in messages for call in message.calls]
    return "\n".join(texts)


def check_text(text: str, line: bytes, found: list[Problem]) -> None:
    """Check the texts of one example, joined; `line` is the JSON that they stand in."""
    for needed, secrets in _SECRETS.items():
        if needed in text:
            for name, begin, pattern in secrets:
                if begin in text and pattern.search(text):
                    message = f"a text holds what looks like {name}; take it out, and revoke it if it is real"
                    found.append(("secret", message))
    if ("<" in text or "[" in text) and (special := _SPECIAL.search(text)):
        message = f"a text holds {special[0]!r}, which steers models; take it out, unless it is what is asked about"
        found.append(("special_token", message))
    if "data:image/" in text and _INLINED.search(text):
        message = "an image is inlined in a text, where only its letters are seen; make it an image_url part"
        found.append(("image_in_text", message))
    # JSON writes control characters as \u00.., but for the last of them.
    if ("\x7f" in text or (b"\\" in line and b"\\u00" in line)) and (control := _CONTROL.search(text)):
        found.append(("control_character", f"a text holds the control character {control[0]!r}; take it out"))
    if not text.isascii():
        _check_letters(text, found)


def _check_letters(text: str, found: list[Problem]) -> None:
    if "\ufffd" in text:
        message = "a text holds U+FFFD, which stands where letters were lost; read its source in the right encoding"
        found.append(("replacement_character", message))
    if broken := _MOJIBAKE.search(text):
        message = f"a text holds {broken[0]!r}, UTF-8 that was read in another encoding; read its source as UTF-8"
        found.append(("mojibake", message))
    elif invisible := _INVISIBLE.search(text):
        message = f"a text holds the character U+{ord(invisible[0]):04X}, which nobody sees; take it out"
        found.append(("invisible_character", message))
