"""What the examples with text are drawn with: words, fonts, lines, and what spoils a picture."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom lie outside."""

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
)
_WORDS = (
    "account address amount arrival balance bank berlin board bottle branch bridge budget camera "
    "carbon cash center charge city client coffee color copper copy credit customer date delivery "
    "deposit desk discount door east email engine entry export fabric factory field file final "
    "flight floor form freight garden gate glass green ground group hotel house invoice island "
    "item january journal july kitchen label lake language left letter library limit line linen "
    "london machine manager march market material meeting metal method minute model money monday "
    "month motor museum name network north notice number october office oil order orange page "
    "paper paris park partner patent payment pepper phone plan plant plate platform please policy "
    "port power press price print product project public quality quantity queen rail rate receipt "
    "record red report reserve return river road room round safety salt sample school sea second "
    "section series service ship shop silver single size small south space spring square station "
    "steel stock stone store street sugar summer sunday supply system table tax terminal test "
    "ticket time tokyo total tower town track trade train travel tuesday turn union unit update "
    "value version village visit voltage warranty water weekly weight west white width window "
    "winter wood world yellow zone"
).split()
_TRIES = 40


def words(rng: np.random.Generator) -> str:
    """One to three words: small, large or capitalised letters, or a number behind them."""
    chosen = [str(word) for word in rng.choice(_WORDS, size=rng.integers(1, 4))]
    match rng.integers(4):
        case 0:
            chosen = [word.upper() for word in chosen]
        case 1:
            chosen = [word.capitalize() for word in chosen]
        case 2:
            chosen.append(f"{rng.integers(1, 999)}.{rng.integers(10, 99)}")
    return " ".join(chosen)


def font_of(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of FONTS, `size` pixels high."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"{name}.ttf", size=size)


def draw_text(text: str, font_name: str, rng: np.random.Generator, *, light: bool) -> Image.Image:
    """The text on an even ground, cropped as a text detector would, in grey."""
    font = font_of(font_name, int(rng.integers(14, 40)))
    left, top, right, bottom = font.getbbox(text)
    x, y = (int(v) for v in rng.integers(1, 8, size=2))
    size = (int(right - left) + 2 * x, int(bottom - top) + 2 * y)
    ink, ground = int(rng.integers(0, 90)), int(rng.integers(150, 256))
    if light:
        ink, ground = ground, ink
    image = Image.new("L", size, ground)
    ImageDraw.Draw(image).text((x - left, y - top), text, fill=ink, font=font)
    tilt = float(rng.normal(0, 1.2))
    return image.rotate(tilt, Image.Resampling.BILINEAR, fillcolor=ground)


def degrade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lower contrast, out of focus, noisy, and saved as a JPEG of low quality."""
    pixels = np.asarray(image, dtype=np.float64)
    contrast = rng.uniform(0.35, 0.9)
    pixels = pixels.mean() + (pixels - pixels.mean()) * contrast
    blurred = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2)))
    )
    noise = rng.normal(0, rng.uniform(0, 20), size=pixels.shape)
    noisy = np.clip(np.asarray(blurred, dtype=np.float64) + noise, 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(buffer, "JPEG", quality=int(rng.integers(25, 80)))
    return Image.open(buffer)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture in grey or colour, as it is shown in a report."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def free_place(
    size: tuple[int, int],
    room: tuple[int, int],
    taken: Sequence[Box],
    apart: int,
    rng: np.random.Generator,
) -> Box | None:
    """Where something may lie without touching what is there; None if no place was found.

    Args:
        size: its width and height, in pixels.
        room: width and height of the picture.
        taken: what is there.
        apart: pixels between any two.
        rng: draws the place.
    """
    for _ in range(_TRIES):
        left = int(rng.integers(0, room[0] - size[0]))
        top = int(rng.integers(0, room[1] - size[1]))
        box = (left, top, left + size[0], top + size[1])
        if not any(_near(box, other, apart) for other in taken):
            return box
    return None


def _near(one: Box, other: Box, apart: int) -> bool:
    return all(
        one[axis] <= other[axis + 2] + apart and other[axis] <= one[axis + 2] + apart
        for axis in (0, 1)
    )
