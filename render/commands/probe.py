"""Command `probe class=NAME`: draw a class, and print what the network sees.

By default the picture is a dream, a normal render of a root config such as `probe`. With `method=maco`, or the root config
of an atlas, it is one of an atlas of classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from render.config.atlas_schema import METHODS, validate_atlas
from render.config.compose import load, load_config, root_configs
from render.config.root_kinds import ATLAS
from render.errors import UserError
from render.probe.class_probe import aim, run_probe
from render.probe.sight import sight_line, sight_table
from render.terminal.document import print_table

_CLASS, _METHOD = "class=", "method="
#: Root config of dreams, and that of pictures by MACO.
_DREAM_ROOT, _MACO_ROOT = "probe", "classes"


def probe_command(root: str, words: Sequence[str]) -> int:
    """Probe the class that `class=` names; the other words change the config.

    Raises:
        UserError: for models or classes that cannot be probed.
        RenderError: every error that a render raises.
    """
    class_text, overrides = take_class(words)
    methods = [word.removeprefix(_METHOD) for word in overrides if word.startswith(_METHOD)]
    if methods and methods[-1] not in METHODS:
        raise UserError(f"method={methods[-1]}: must be {' or '.join(METHODS)}")
    if root in root_configs(ATLAS) or (methods and methods[-1] != METHODS[0]):
        _probe_picture(_MACO_ROOT if root == _DREAM_ROOT else root, class_text, overrides)
        return 0
    dream_words = [word for word in overrides if not word.startswith(_METHOD)]
    config, target = aim(load_config(root, dream_words), class_text)
    run_probe(config, target)
    return 0


def take_class(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the value of `class=` (the last one, if there are several) and the other words."""
    classes = [word.removeprefix(_CLASS).strip() for word in words if word.startswith(_CLASS)]
    if not classes or not classes[-1]:
        raise UserError("probe needs a class: class=NAME, such as class=dumbbell, or its index")
    return classes[-1], [word for word in words if not word.startswith(_CLASS)]


def _probe_picture(root: str, class_text: str, words: Sequence[str]) -> None:
    """Draw a class as a picture of an atlas; print what the network sees, and the places of picture and page."""
    config = load(ATLAS, root, [*words, "classes=[0]"])
    config.classes = [class_text]
    validate_atlas(config)
    from render.atlas.class_picture import class_picture
    from render.job import report
    from render.job.progress import say
    from render.system import interrupts

    interrupts.hold()
    report.start_logging(quiet=config.quiet)
    record, paths = class_picture(config)
    if not config.quiet:
        print_table(sight_table(record, config.model.name))
    say(sight_line(record), *map(str, paths), quiet=config.quiet)
