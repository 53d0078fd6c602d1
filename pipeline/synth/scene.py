"""The still part of a rally: court, crowd, boards, net, score panel, light and sensor noise.

Everything is drawn once per clip, larger than the picture, and then seen through the affine view
of a camera that moves a little.  Much of it resembles a ball on purpose: heads, white letters,
forgotten balls.  All pictures are uint8 RGB.

    scene = Scene(rng, sport, place_camera(rng, sport, 1280, 720), 1280, 720)
    picture = scene.finish(scene.still(np.eye(2, 3)), rng)

What moves is `pipeline.synth.film`'s business.
"""

from __future__ import annotations

import cv2
import numpy as np

from tracknet.pipeline.pictures.draw import (
    FRACTION_BITS,
    Colour,
    Cover,
    blend,
    fixed,
    polygon,
    streak,
)
from tracknet.pipeline.synth.camera import Camera
from tracknet.pipeline.synth.player import Pose, ball_colour, draw_player, muted, random_outfit
from tracknet.pipeline.synth.rally import Sport, Vector

WORDS = ("BASELINE", "NORTHCUP", "VOLLEY", "ARENA ONE", "OPEN 26", "LUMEN", "KITE", "RALLY")

COURTS: dict[str, tuple[tuple[Colour, Colour], ...]] = {  # inside, outside
    "tennis": (
        ((44, 84, 140), (60, 120, 80)),
        ((56, 96, 165), (40, 70, 120)),
        ((176, 92, 56), (176, 92, 56)),
        ((96, 138, 70), (84, 122, 62)),
    ),
    "badminton": (
        ((60, 140, 100), (50, 90, 170)),
        ((40, 120, 80), (70, 70, 78)),
        ((50, 130, 110), (150, 60, 50)),
    ),
    "padel": (((30, 90, 190), (40, 44, 50)), ((40, 120, 90), (30, 60, 50))),
}


class Scene:
    """The still part of one clip.

    Args:
        rng: decides colours, crowd, light and noise.
        sport, camera: what is played and from where it is seen.
        width, height: the picture, pixels.
    """

    MARGIN = 0.08
    """The court is painted this share larger on every side, room for the camera to move."""

    def __init__(
        self, rng: np.random.Generator, sport: Sport, camera: Camera, width: int, height: int
    ) -> None:
        self.sport, self.camera = sport, camera
        self.width, self.height = width, height
        self.margin = round(self.MARGIN * width)
        self.pixel = width / 1280  # what is drawn in pixels grows with the picture
        shape = (height + 2 * self.margin, width + 2 * self.margin, 3)
        self.backdrop = np.zeros(shape, np.uint8)
        self._paint_backdrop(rng)
        self.net_cover, self.net_paint = self._make_net(rng)
        self.panel = self._make_panel(rng)
        self.noise = self._make_noise(rng)
        self.tone = self._make_tone(rng)

    # -- the still picture --------------------------------------------------------------------

    def _on_canvas(self, points: np.ndarray) -> np.ndarray:
        return self.camera.project(np.asarray(points, float))[..., :2] + self.margin

    def _paint_backdrop(self, rng: np.random.Generator) -> None:
        sport, canvas = self.sport, self.backdrop
        inside, outside = COURTS[sport.name][int(rng.integers(len(COURTS[sport.name])))]
        shift = rng.integers(-14, 15, 3)
        inside, outside = (tuple(np.clip(c + shift, 0, 255).tolist()) for c in (inside, outside))
        back = sport.half_length + sport.run_off
        side = sport.half_width + (sport.run_off * 0.8 if sport.run_off else 0.25)
        self._paint_crowd(rng)
        polygon(canvas, self._rectangle(side, self.camera.y + 2.0, back), outside)
        edge = 0.9 if sport.shuttle else 0.0
        end = sport.half_length + edge
        polygon(canvas, self._rectangle(sport.half_width + edge, -end, end), inside)
        self._paint_boards(rng, side, back)
        self._paint_floor_logos(rng)
        for a, b in sport.lines:
            self._paint_line(np.array(a), np.array(b))
        self._paint_bystanders(rng, side, back)
        self._light(rng)

    def _rectangle(self, half_width: float, near: float, far: float) -> np.ndarray:
        """A rectangle on the floor as four points of the canvas, `[4, 2]`."""
        w = half_width
        return self._on_canvas(np.array([[-w, near, 0], [w, near, 0], [w, far, 0], [-w, far, 0]]))

    def _paint_line(self, a: np.ndarray, b: np.ndarray) -> None:
        along = (b - a) / np.linalg.norm(b - a)
        across = 0.03 * np.array([-along[1], along[0]])
        corners = np.array([a + across, b + across, b - across, a - across])
        flat = np.column_stack([corners, np.zeros(4)])
        polygon(self.backdrop, self._on_canvas(flat), (236, 238, 236))

    def _paint_crowd(self, rng: np.random.Generator) -> None:
        """Rows of heads and shirts in light that may be dim; they look like balls, and move not."""
        canvas, u = self.backdrop, self.pixel
        canvas[:] = rng.integers(14, 60, 3)
        light = rng.uniform(0.2, 0.95) if not self.sport.shuttle else rng.uniform(0.12, 0.5)
        density = rng.uniform(0.5, 0.95)
        row, depth = 0.0, 15.0 * u
        while row < canvas.shape[0]:
            seat = depth * 0.9
            for x in np.arange(0, canvas.shape[1], seat):
                if rng.random() > density:
                    continue
                cx, cy = x + rng.normal(0, 0.15 * seat), row + rng.normal(0, 0.1 * seat)
                shirt = tuple((np.array(muted(rng, 20, 250)) * light).astype(int).tolist())
                skin = tuple((np.array((205, 160, 130)) * light).astype(int).tolist())
                body = fixed(np.array([cx, cy + 0.5 * seat])).tolist()
                axes = fixed(np.array([0.33, 0.38]) * seat).tolist()
                cv2.ellipse(canvas, body, axes, 0, 0, 360, shirt, -1, cv2.LINE_AA, FRACTION_BITS)
                head, radius = fixed(np.array([cx, cy])).tolist(), int(axes[0] * 0.55)
                cv2.circle(canvas, head, radius, skin, -1, cv2.LINE_AA, FRACTION_BITS)
            row += depth
            depth *= 1.035

    def _paint_boards(self, rng: np.random.Generator, side: float, back: float) -> None:
        high = {"tennis": 2.2, "badminton": 0.9, "padel": 3.0}[self.sport.name]
        start, low = -self.sport.half_length * 0.9, 1.0
        colour = muted(rng, 5, 190)
        wall = self._strip(rng, colour, 6 * side / high)
        self._hang(wall, (-side, back, high), (side, back, high), (0, 0, -high))
        fence = self._strip(rng, colour, 1.5 * (back - start) / low)
        self._hang(fence, (-side, start, low), (-side, back, low), (0, 0, -low))
        self._hang(fence, (side, back, low), (side, start, low), (0, 0, -low))

    def _strip(self, rng: np.random.Generator, colour: Colour, length: float) -> np.ndarray:
        """An advertising board as a flat picture, `length` times as wide as high, within reason."""
        strip = np.empty((48, int(48 * min(length, 26)), 3), np.uint8)
        strip[:] = colour
        x = 10
        while x < strip.shape[1]:
            word = WORDS[int(rng.integers(len(WORDS)))]
            if rng.random() < 0.4:
                x1 = x + 24 * len(word)
                strip[:, x - 8 : x1] = muted(rng, 0, 255)
            ink = (245, 245, 245) if rng.random() < 0.7 else muted(rng, 0, 255)
            cv2.putText(strip, word, (x, 34), cv2.FONT_HERSHEY_DUPLEX, 1.0, ink, 2, cv2.LINE_AA)
            x += 24 * len(word) + int(rng.integers(20, 160))
        return strip

    def _hang(
        self,
        flat: np.ndarray,
        left: Vector,
        right: Vector,
        down: Vector,
        canvas: np.ndarray | None = None,
    ) -> None:
        """Put a flat picture into the world: its upper corners, and the way down, in metres."""
        canvas = self.backdrop if canvas is None else canvas
        height, width = flat.shape[:2]
        source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        corners = np.array([left, right, np.add(right, down), np.add(left, down)])
        matrix = cv2.getPerspectiveTransform(source, self._on_canvas(corners).astype(np.float32))
        size = canvas.shape[1], canvas.shape[0]
        cv2.warpPerspective(flat, matrix, size, canvas, cv2.INTER_AREA, cv2.BORDER_TRANSPARENT)

    def _paint_floor_logos(self, rng: np.random.Generator) -> None:
        """Words on the floor: white strokes as thick as a ball is wide."""
        for _ in range(int(rng.integers(0, 3))):
            word = WORDS[int(rng.integers(len(WORDS)))]
            flat = np.zeros((48, 26 * len(word)), np.uint8)
            cv2.putText(flat, word, (4, 36), cv2.FONT_HERSHEY_DUPLEX, 1.1, 255, 3, cv2.LINE_AA)
            x = rng.uniform(-0.6, 0.6) * self.sport.half_width
            y = rng.choice([-1.12, -0.75, 0.7, 1.1]) * self.sport.half_length
            half, deep = 0.14 * len(word), 0.7
            ink = np.zeros(self.backdrop.shape[:2], np.uint8)
            self._hang(
                flat, (x - half, y + deep, 0), (x + half, y + deep, 0), (0, -2 * deep, 0), ink
            )
            blend(self.backdrop, Cover(ink / np.float32(255), 0, 0), np.array((225, 228, 230)))

    def _paint_bystanders(self, rng: np.random.Generator, side: float, back: float) -> None:
        """An umpire, ball kids, and forgotten balls that lie at the foot of the boards."""
        places = [(side - 0.6, 0.0)] + [
            (float(rng.uniform(-side, side)), back - 0.5) for _ in range(int(rng.integers(0, 4)))
        ]
        for x, y in places:
            at = self.camera.project(np.array([x, y, 0.0]))
            scale = self.camera.focal / at[2]
            feet = (at[0] + self.margin, at[1] + self.margin)
            pose = Pose(feet, 0.9 * scale, stride=0.2, reach=None, facing=1)
            draw_player(self.backdrop, random_outfit(rng), pose)
        for _ in range(int(rng.integers(0, 3))):
            spot = np.array([rng.uniform(-side, side), back - 0.2, 0.05])
            at = self.camera.project(spot)
            centre = (at[:2] + self.margin)[None, None]
            cover = streak(centre, np.array([0.04 * self.camera.focal / at[2]]))
            blend(self.backdrop, cover, np.array(ball_colour(self.sport.shuttle)))

    def _light(self, rng: np.random.Generator) -> None:
        """Stains, grain and uneven light, then the softness of lens and codec."""
        canvas = self.backdrop
        h, w, _ = canvas.shape
        stains = cv2.resize(
            rng.normal(0, 1, (12, 20)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC
        )
        grain = rng.normal(0, 1, (h, w)).astype(np.float32)
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        fall = ((x / w - 0.5) ** 2 + (y / h - 0.55) ** 2) * rng.uniform(0.2, 0.8)
        gain = (1 + 0.035 * stains + 0.02 * grain - fall)[..., None]
        soft = float(rng.uniform(0.5, 0.9)) * self.pixel
        lit = np.clip(canvas * gain, 0, 255).astype(np.uint8)
        self.backdrop = cv2.GaussianBlur(lit, (0, 0), max(soft, 0.3))

    def _make_net(self, rng: np.random.Generator) -> tuple[Cover, np.ndarray]:
        """The net's cover, placed on the canvas, and its paint `[h, w, 3]`."""
        sport = self.sport
        half = sport.net_half_width
        posts = self._on_canvas(np.array([[-half, 0, sport.net_height + 0.1], [half, 0, 0.0]]))
        left, top = np.floor(posts[0] - 4).astype(int)
        right, bottom = np.ceil(posts[1] + 4).astype(int)
        cover = np.zeros((bottom - top, right - left), np.float32)
        paint = np.zeros((*cover.shape, 3), np.uint8)
        paint[:] = rng.integers(5, 60)

        def band(
            low: float, high: float, alpha: float, colour: Colour, x0: float, x1: float
        ) -> None:
            corners = np.array([[x0, 0, high], [x1, 0, high], [x1, 0, low], [x0, 0, low]])
            shape = self._on_canvas(corners) - (left, top)
            area = np.zeros(cover.shape, np.uint8)
            cv2.fillConvexPoly(area, fixed(shape), 255, cv2.LINE_AA, FRACTION_BITS)
            paint[area > 0] = colour
            np.copyto(cover, np.maximum(cover, area / 255 * alpha), where=area > 0)

        mesh = tuple(paint[0, 0].tolist())
        band(sport.net_bottom, sport.net_height, float(rng.uniform(0.25, 0.5)), mesh, -half, half)
        weave = np.ones(cover.shape, np.float32)
        weave[::3] *= 1.35
        weave[:, ::3] *= 1.35
        cover *= np.minimum(weave, 1.6)
        white = (238, 238, 236)
        band(sport.net_height - 0.07, sport.net_height, 0.97, white, -half, half)
        for x in (-half, half):
            band(0.0, sport.net_height + 0.05, 1.0, (50, 52, 56), x - 0.05, x + 0.05)
        if not sport.shuttle:
            band(0.0, sport.net_height, 0.9, white, -0.03, 0.03)
        return Cover(np.minimum(cover, 1.0), int(left), int(top)), paint

    def _make_panel(self, rng: np.random.Generator) -> tuple[Cover, np.ndarray]:
        """The score panel of the broadcast: it stands still while the camera moves."""
        u = self.pixel
        height, width = round(50 * u), round(220 * u)
        panel = np.empty((height, width, 3), np.uint8)
        panel[:] = rng.integers(10, 60, 3)
        for row in range(2):
            text = f"{WORDS[int(rng.integers(len(WORDS)))][:8]}  {int(rng.integers(0, 22))}"
            spot = (round(8 * u), round((20 + 22 * row) * u))
            font, white = (cv2.FONT_HERSHEY_DUPLEX, 0.55 * u), (240, 240, 240)
            cv2.putText(panel, text, spot, *font, white, max(1, round(u)), cv2.LINE_AA)
        top = round(30 * u) if rng.random() < 0.6 else self.height - height - round(30 * u)
        alpha = np.full((height, width), float(rng.uniform(0.85, 1.0)), np.float32)
        return Cover(alpha, round(40 * u), top), panel

    def _make_noise(self, rng: np.random.Generator) -> np.ndarray:
        """One large sheet of sensor noise; each frame gets another part of it."""
        sigma = float(rng.uniform(0.8, 3.5))
        shape = (self.height + 61, self.width + 67, 3)
        return np.clip(rng.standard_normal(shape, np.float32) * sigma, -30, 30).astype(np.int16)

    def _make_tone(self, rng: np.random.Generator) -> np.ndarray:
        """A tone curve per colour: exposure, gamma and white balance of this camera."""
        levels = np.linspace(0, 1, 256)[:, None]
        gain = rng.uniform(0.85, 1.1) * (1 + rng.normal(0, 0.03, 3))
        curve = np.clip(gain * levels ** rng.uniform(0.85, 1.15), 0, 1)
        return (curve * 255).round().astype(np.uint8)[:, None, :].transpose(1, 0, 2)

    # -- one frame ------------------------------------------------------------------------------

    def still(self, view: np.ndarray) -> np.ndarray:
        """The backdrop as seen through `view` `[2, 3]`, an affine map of picture coordinates."""
        from_canvas = view - [[0, 0, shift] for shift in view[:, :2].sum(axis=1) * self.margin]
        size = self.width, self.height
        return cv2.warpAffine(self.backdrop, from_canvas, size, borderMode=cv2.BORDER_REPLICATE)

    def net(self, view: np.ndarray) -> tuple[Cover, np.ndarray]:
        """The net as seen through `view`, and its paint."""
        shift = np.array([self.net_cover.left, self.net_cover.top]) - self.margin
        corner = view[:, :2] @ shift + view[:, 2]
        left, top = np.floor(corner).astype(int)
        local = view.copy()
        local[:, 2] = corner - (left, top)
        height, width = self.net_cover.alpha.shape
        size = (round(1.06 * width) + 2, round(1.06 * height) + 2)
        alpha = cv2.warpAffine(self.net_cover.alpha, local, size)
        paint = cv2.warpAffine(self.net_paint, local, size, borderMode=cv2.BORDER_REPLICATE)
        return Cover(alpha, int(left), int(top)), paint

    def finish(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Tone curve and sensor noise, last of all."""
        dy, dx = int(rng.integers(0, 61)), int(rng.integers(0, 67))
        noise = self.noise[dy : dy + self.height, dx : dx + self.width]
        toned = cv2.LUT(picture, self.tone)
        return cv2.add(toned, noise, dtype=cv2.CV_8U)
