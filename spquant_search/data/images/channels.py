"""Choose between one grey channel and three of colours, and say it where it is no matter of course."""

from __future__ import annotations

from spquant_search.data.images.colours import LOOKED_AT, Colours

Channels = tuple[int, tuple[str, ...]]  # how many there are, and what a user should know of them

_COLOURED = 3
_TURNED_GREY = "turned grey, as data.channels: 1 says (0.299 red + 0.587 green + 0.114 blue)"


def published_channels(published: int, chosen: int | None) -> Channels:
    """Take the channels that a user has chosen for a published set of so many, or those."""
    notes = (f"all images are in colour: {_TURNED_GREY}",) if chosen == 1 and published == _COLOURED else ()
    return chosen or published, notes


def unseen_channels(chosen: int | None) -> Channels:
    """Take the channels that a user has chosen for images that nobody has seen."""
    if chosen is not None:
        return chosen, ()
    return _COLOURED, (
        "the images are not there, so it is not known whether all are grey: three channels are counted; "
        "data.channels: 1 counts one",
    )


def folder_channels(colours: Colours, chosen: int | None) -> Channels:
    """Take the channels that a user has chosen for a folder of images; otherwise one where all images are grey."""
    if chosen == 1:
        return 1, (f"{_subject(colours)} in colour: {_TURNED_GREY}",) if colours.colour else ()
    if chosen is not None:
        return chosen, ()
    if colours.images and not colours.colour:
        return 1, (f"{_subject(colours)} grey: frames have one channel; data.channels: 3 makes it three",)
    notes = []
    if colours.grey:
        notes.append(
            f"{_subject(colours)} in colour: frames have three channels, which are equal where an image is grey; "
            "data.channels: 1 turns all of them grey"
        )
    if colours.colour and not colours.colours_seen:
        looked = min(LOOKED_AT, colours.colour)
        notes.append(
            f"the files in colour show nothing but grey, as far as {looked} of them were looked at: data.channels: 1 "
            "makes one channel of three that are equal"
        )
    return _COLOURED, tuple(notes)


def _subject(colours: Colours) -> str:
    """Begin a sentence on the images that are in colour, or on all of them where none is."""
    count = colours.colour or colours.grey
    if count == colours.images:
        return f"all {count:,} images are"
    return f"{count:,} of {colours.images:,} images {'is' if count == 1 else 'are'}"
