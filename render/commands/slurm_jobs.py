"""Command `submit` for Slurm: check a job here, fetch its weights, and queue it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from render.cluster import slurm
from render.cluster.cluster_files import Cluster
from render.cluster.slurm_job import words_of_task
from render.cluster.slurm_options import split_options
from render.cluster.slurm_time import refuse_short_time
from render.cluster.tools import require_tools
from render.config.compose import is_sweep, load_config
from render.config.schema import Config
from render.errors import UserError
from render.storage.url import is_url
from render.storage.user_paths import user_path


def send_job(cluster: Cluster, root: str, words: Sequence[str]) -> tuple[str, str]:
    """Queue a render, or a sweep if the root config is one; return the job's number and where its pictures will be.

    All nodes of Slurm see this directory, so paths stay as they are.

    Raises:
        UserError: A word is wrong, the weights are not here and cannot be fetched, or Slurm does not take the job.
    """
    options, job_words = split_options(words)
    # The words of a job array have the number of the task in place of %a: check those of its first task.
    first_task = re.match(r"\d+", options["array"]) if "array" in options else None
    checked_words = words_of_task(job_words, first_task[0] if first_task else None)
    if is_sweep(root, checked_words):
        config, place = _checked_sweep(root, checked_words)
        program_words = ["sweep", f"conf={root}", *job_words]
    else:
        config = load_config(root, checked_words)
        if config.output.dir is None:
            raise UserError(
                "a job on a cluster needs output.dir: a directory that all nodes see, or one in an object store"
            )
        place = config.output.dir
        program_words = [f"conf={root}", *job_words]
    _check_array(options, job_words)
    _check_farm(config)
    refuse_short_time(cluster.path.read_text(encoding="utf-8"), options)
    _check_image(config)
    require_tools(cluster, "submit")
    _fetch_weights(config)
    return slurm.send(cluster, config.name, program_words, options), place


def _checked_sweep(root: str, words: Sequence[str]) -> tuple[Config, str]:
    """Return the job that is common to a sweep's points, and the sweep's directory."""
    from render.sweeps.breeding.generation import define_sweep
    from render.sweeps.sweep_directory import sweep_path

    definition = define_sweep(root, words)
    return definition.config.job(), str(sweep_path(definition))


def _check_array(options: dict[str, str], words: Sequence[str]) -> None:
    # Of several words with one key, the last counts.
    last_words = {word.partition("=")[0]: word for word in words}.values()
    if "array" in options and not any("%a" in word for word in last_words):
        raise UserError(
            f"sbatch.array={options['array']}: all tasks would render the same: %a in a word is the task's number, as in "
            "output.dir=/shared/dream-%a seed=%a"
        )


def _check_farm(config: Config) -> None:
    if config.farm.executor == "inline":
        raise UserError("farm.executor=inline uses no farm, and the script starts one on all nodes of the job; drop it")
    if config.farm.address is not None:
        raise UserError(f"farm.address={config.farm.address}: the script starts a farm of its own; drop it")


def _check_image(config: Config) -> None:
    image = config.image
    if image == "noise" or image.startswith("sample:") or is_url(image):
        return
    if not user_path(image, "image").is_file():
        raise UserError(f"image={image}: there is no such file here, and nodes read it under the same path")


def _fetch_weights(config: Config) -> None:
    """Fetch published weights that are not in the cache: nodes seldom reach the internet."""
    from render.networks.weights import cached_path, find_model, load

    if config.model.weights is not None:
        return
    name, path = config.model.name, cached_path(find_model(config.model.name))
    if path.is_file():
        return
    try:
        load(name)
    except UserError as error:
        raise UserError(
            f"{error}; or run make weights model={name} on a machine with internet, and copy {path.name} from its cache to "
            f"{path.parent}, which nodes must see too"
        ) from None
