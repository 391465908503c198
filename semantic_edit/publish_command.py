"""`semantic-edit publish`: a pipeline, the still-life model, a learned image or the page as a repository on the Hub."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from semantic_edit.disk.models import STABLE_DIFFUSION
from semantic_edit.disk.writing import write_folder
from semantic_edit.files import UsageError, check_folder, is_mapping_folder
from semantic_edit.loading import quiet_loading
from semantic_edit.options import add_traceback
from semantic_edit.publishing.published import PIPELINES, pipelines_for
from semantic_edit.terminal import say


def add_options(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(required=True, metavar="what", dest="what")
    for name, (add, content) in _KINDS.items():
        add(kinds.add_parser(name, help=content, description=f"Publish {content}."))
    for kind in kinds.choices.values():
        _add_destination(kind)
        add_traceback(kind, default=argparse.SUPPRESS)  # or it would undo one that stands before it


def _add_pipelines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pipeline", choices=PIPELINES, help="the pipeline to publish; each has a repository of its own"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--own-pipeline",
        choices=pipelines_for(STABLE_DIFFUSION),
        help="what `from_pretrained(..., trust_remote_code=True)` loads by itself (default: StableDiffusionPipeline)",
    )


def _add_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mapping", type=Path, help="a folder that `semantic-edit learn` wrote")
    parser.add_argument(
        "--license",
        required=True,
        metavar="ID",
        help="licence of the image, by its name on the Hub, for example cc-by-4.0",
    )
    parser.add_argument(
        "--base-model", metavar="OWNER/NAME", help="Hub id of the model that the image was learned with"
    )


_KINDS = {
    "pipelines": (_add_pipelines, "the code of a pipeline, for anyone to load by its name"),
    "model": (_add_model, "the still-life model, including its pipelines"),
    "mapping": (_add_mapping, "a learned image, for others to edit"),
    "space": (lambda parser: None, "the page, as a Space that runs on the Hub"),
}


def _add_destination(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="OWNER/NAME", help="the repository; created if it does not exist")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="also save the repository in this folder"
    )
    parser.add_argument(
        "--private", action="store_true", help="let only you and your organisation see the repository"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="build, check and list the files, but upload nothing"
    )


def run(options: argparse.Namespace) -> None:
    """Build a repository, list its files, and upload it to the Hub in one commit."""
    if options.to is None:
        raise UsageError("name the repository with --to owner/name; with --dry-run nothing is uploaded")
    if options.output is not None:
        check_folder("--output", options.output)
    if options.what == "mapping" and not is_mapping_folder(options.mapping):
        raise UsageError(
            f"{options.mapping} does not hold a mapping network; name a folder that semantic-edit learn wrote"
        )
    quiet_loading()
    from semantic_edit.publishing.errors import PublishError
    from semantic_edit.publishing.upload import check_repo_id

    try:
        check_repo_id(options.to)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "repository"
            folder.mkdir()
            _build(options, folder)
            _show(options, folder)
            if options.output is not None:
                files = [path for path in folder.rglob("*") if path.is_file()]
                contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
                write_folder(options.output, contents)
                say(options.output)
            if not options.dry_run:
                _send(options, folder)
    except PublishError as error:
        raise UsageError(error) from error


def _build(options: argparse.Namespace, folder: Path) -> None:
    from semantic_edit.publishing.repositories import build_mapping, build_model, build_pipeline
    from semantic_edit.publishing.space import build_space

    if options.what == "pipelines":
        build_pipeline(options.pipeline, folder, options.to)
    elif options.what == "model":
        build_model(folder, options.to, options.own_pipeline)
    elif options.what == "space":
        build_space(folder, options.to)
    else:
        build_mapping(options.mapping, folder, options.to, options.license, options.base_model)


def _show(options: argparse.Namespace, folder: Path) -> None:
    from semantic_edit.publishing.repositories import check_repository

    files = check_repository(folder)
    say(f"{options.to} ({'private' if options.private else 'public'}), {len(files)} files:")
    for name, size in files:
        say(f"  {name}  {size:,} bytes")


def _send(options: argparse.Namespace, folder: Path) -> None:
    from semantic_edit.publishing.upload import upload

    names = {
        "pipelines": "pipeline",
        "model": "still-life model",
        "mapping": "learned image",
        "space": "page",
    }
    kind = "space" if options.what == "space" else "model"
    message = f"Publish the {names[options.what]} with diffusers-semantic-edit"
    say(upload(folder, options.to, options.private, message, kind))
