"""What the labels of datasets say: harmless traffic is `normal`, whatever a file calls it."""

HARMLESS = ("benign", "normal", "background")
"""Words for traffic that is no attack; nobody has looked at background."""

_UNTOLD = ("", "-", "unknown", "nolabel", "needmanuallabel")


def label_of(text: str) -> str | None:
    """Return `normal`, the attack as it is called, or None where nothing is said.

    Examples
    --------
    >>> label_of("BENIGN"), label_of("DoS Hulk"), label_of("No Label")
    ('normal', 'DoS Hulk', None)
    """
    word = text.lower().replace(" ", "")
    if word in _UNTOLD:
        return None
    return "normal" if word in HARMLESS else text
