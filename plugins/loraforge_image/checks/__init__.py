# SPDX-License-Identifier: Apache-2.0
"""What is looked at in pictures and captions before a run trains on them. One file per idea.

Pictures are looked at with an illustrator's eyes: a soft style, a small detail, a caption of one word may all be meant.
"""

from __future__ import annotations

from loraforge import Check


def checks() -> list[Check]:
    """All checks of the image plugin, the gravest first."""
    from .caption_outliers import CaptionOutliers
    from .duplicates import Duplicates
    from .long_captions import LongCaptions
    from .missing_trigger import MissingTrigger
    from .personal_data import PersonalData
    from .vision import Blur, Small

    return [PersonalData(), Duplicates(), MissingTrigger(), LongCaptions(), CaptionOutliers(), Small(), Blur()]
