"""Loads the images of a task, and turns a render into a finished image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL.Image import Image, Resampling

from eacps import images as pixels
from eacps.artifacts import ArtifactStore
from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.editors import Render


def finish(images: TaskImages, render: Render) -> Image:
    """Resize a render to the source's size, and restore the source outside the mask."""
    if render.image is None:
        raise ValueError("a failed render cannot be finished")
    if render.image.size == images.source.size:
        return masked(images, render.image)
    return masked(images, render.image.resize(images.source.size, Resampling.LANCZOS))


def masked(images: TaskImages, edited: Image) -> Image:
    """Restore the source outside the mask, if there is one."""
    if images.mask is None:
        return edited
    return pixels.keep_outside(images.source, edited, images.mask)


def load_images(task: EditTask, store: ArtifactStore, settings: Settings) -> TaskImages:
    """Load a task's images from the store.

    A source without a mask is shrunk to EACPS_MAX_SIDE, except for a face swap.
    """
    limits = image_limits(settings)
    source = pixels.decode(store.get(task.image), limits)
    if task.mask is None and task.route != "face_swap":
        source = pixels.fit_within(source, settings.max_side)
    return TaskImages(
        source=source,
        mask=pixels.decode_mask(store.get(task.mask), limits) if task.mask else None,
        references=tuple(pixels.decode(store.get(name), limits) for name in task.references),
        regions=tuple(pixels.decode_mask(store.get(name), limits) for name in task.regions),
    )


def image_limits(settings: Settings) -> pixels.ImageLimits:
    """The limits on images from the settings."""
    return pixels.ImageLimits(
        settings.max_image_bytes, settings.max_image_pixels, settings.min_image_side
    )
