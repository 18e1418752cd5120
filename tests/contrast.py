"""The contrast of a text on a page with its background."""

import numpy as np

# The color of a text, and of the nearest opaque background: three numbers in 0..255 each.
COLOURS = """element => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const text = rgba(getComputedStyle(element).color);
    let behind = [0, 0, 0, 0];
    for (let at = element; at && behind[3] === 0; at = at.parentElement)
        behind = rgba(getComputedStyle(at).backgroundColor);
    if (behind[3] === 0)
        behind = matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
    return [text.slice(0, 3), behind.slice(0, 3)];
}"""


def contrast(locator) -> float:
    """Contrast of the element's text with its background, 1 to 21 (WCAG 2.2)."""
    bright, dark = sorted(map(luminance, locator.evaluate(COLOURS)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour):
    """Relative luminance (WCAG 2.2) of three numbers in 0..255."""
    scaled = np.array(colour) / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]
