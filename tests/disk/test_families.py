import pytest

from semantic_edit.disk.models import FAMILIES, STABLE_DIFFUSION, STABLE_DIFFUSION_XL, check_same_family

AGAIN = "invert the picture again"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_family_passes_and_so_does_an_unknown_one(family):
    check_same_family("trajectory", family.name, family, "diffedit", AGAIN)
    check_same_family("trajectory", "", family, "diffedit", AGAIN)
    check_same_family("trajectory", family.name, None, "diffedit", AGAIN)


@pytest.mark.parametrize(
    ("method", "pipeline"),
    [
        ("diffedit", "StableDiffusionXLDiffEditPipeline"),
        ("stylediffusion", "StableDiffusionXLStyleDiffusionPipeline"),
    ],
)
def test_another_family_is_named_with_its_pipeline_of_the_same_method(method, pipeline):
    match = (
        r"`trajectory` .* of SDXL, and .* of Stable Diffusion 1\.x and 2\.x\. "
        f"Use the model that it was made with, in a {pipeline}, or {AGAIN}"
    )
    with pytest.raises(ValueError, match=match):
        check_same_family("trajectory", STABLE_DIFFUSION_XL.name, STABLE_DIFFUSION, method, AGAIN)


def test_a_family_that_a_later_version_knows():
    match = r"it is of 'later', and .* of SDXL\. Use the model that it was made with, in its pipeline, or"
    with pytest.raises(ValueError, match=match):
        check_same_family("trajectory", "later", STABLE_DIFFUSION_XL, "diffedit", AGAIN)
