"""Is a line of text upright or upside down? PaddleOCR's classifier, and lines to ask it about."""

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from calib.store import write_atomically
from data_loaders.types import Preview, Sample
from examples.packages import BUILD, read_member, wheel

_REQUIREMENT = "rapidocr-onnxruntime==1.4.4"
_SHA256 = "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
_MEMBER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"

HEIGHT, WIDTH = 48, 192
"""What the classifier was trained on, in pixels."""

_SEED = 180
_SPLITS = {"calibration": 0, "validation": 1}
_FONTS = (
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

Line = tuple[NDArray[np.uint8], int, dict[str, str]]


def model() -> Path:
    """The classifier's ONNX file, copied out of its package once."""
    path = BUILD / "textline" / "model.onnx"
    content = read_member(wheel(_REQUIREMENT, _SHA256), _MEMBER)
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, content)
    return path


def samples(split: Literal["calibration", "validation"], count: int) -> Iterator[Sample]:
    """Rendered lines; line i is the same whatever `count` is.

    Args:
        split: the two never share a line.
        count: number of lines.

    Yields:
        input `x`, float32 (3, 48, 192) in -1…1; label 0 upright, 1 turned by 180°; metadata font,
        ink (dark or light) and quality (clean or degraded).
    """
    for index in range(count):
        pixels, label, metadata = _line(split, index)
        scaled = (pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        yield Sample(
            id=f"{split}-{index:05d}",
            inputs={"x": np.repeat(scaled[None], 3, axis=0)},
            label=label,
            metadata=metadata,
            preview=Preview(png=_png(pixels)),
        )


@cache
def _line(split: str, index: int) -> Line:
    """One line as uint8 (48, 192), its label, and what it was made of."""
    rng = np.random.default_rng([_SEED, _SPLITS[split], index])
    font = str(rng.choice(_FONTS))
    light, degraded = bool(rng.random() < 0.3), bool(rng.random() < 0.5)
    image = _drawn(_text(rng), font, rng, light=light)
    if degraded:
        image = _degraded(image, rng)
    label = int(rng.random() < 0.5)
    if label:
        image = image.transpose(Image.Transpose.ROTATE_180)
    metadata = {
        "font": font,
        "ink": "light" if light else "dark",
        "quality": "degraded" if degraded else "clean",
    }
    return _padded(image), label, metadata


def _text(rng: np.random.Generator) -> str:
    words = [str(word) for word in rng.choice(_WORDS, size=rng.integers(1, 4))]
    match rng.integers(4):
        case 0:
            words = [word.upper() for word in words]
        case 1:
            words = [word.capitalize() for word in words]
        case 2:
            words.append(f"{rng.integers(1, 999)}.{rng.integers(10, 99)}")
    return " ".join(words)


def _drawn(text: str, font_name: str, rng: np.random.Generator, *, light: bool) -> Image.Image:
    """The text on an even ground, cropped as a text detector would, in grey."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(folder / f"{font_name}.ttf", size=int(rng.integers(14, 40)))
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


def _degraded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
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


def _padded(image: Image.Image) -> NDArray[np.uint8]:
    """As the classifier expects it: 48 high, ratio kept up to 192 wide, grey to the right."""
    width = min(WIDTH, max(1, round(image.width * HEIGHT / image.height)))
    canvas = np.full((HEIGHT, WIDTH), 128, dtype=np.uint8)
    canvas[:, :width] = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR))
    return canvas


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
