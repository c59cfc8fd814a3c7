// Reads the pixels of pictures: heat maps of differences, changed places, outlines of masks.

const LARGEST = 1024;
const STRONG = 56;
const CHANGED = 18;
const CELLS = 48;
/** Black, violet, red, orange, yellow: as dark as small, so that it also works without colours. */
const HEAT = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

/** One for all: browsers let go of canvases late, and each holds megabytes. */
const scratch = document.createElement("canvas");
const map = document.createElement("canvas");

/** The pixels of a picture, at most 1024 on a side; `size` to make two comparable. */
export function pixelsOf(picture, size = null) {
  const [width, height] = size ?? fitted(picture.naturalWidth, picture.naturalHeight);
  scratch.width = width;
  scratch.height = height;
  const context = scratch.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

function fitted(width, height) {
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

/** How two pictures differ: a canvas with a heat map, the share of changed pixels, and the
 * rectangles of what changed (in shares of the picture), largest first. */
export function difference(before, after) {
  const now = pixelsOf(after);
  const old = pixelsOf(before, [now.width, now.height]);
  const { width, height } = now;
  const image = new ImageData(width, height);
  const cells = new Float32Array(CELLS * CELLS);
  let changed = 0;
  for (let at = 0, pixel = 0; at < now.data.length; at += 4, pixel += 1) {
    const by = largest(old.data, now.data, at);
    if (by > CHANGED) {
      changed += 1;
      const column = Math.floor(((pixel % width) / width) * CELLS);
      const row = Math.floor((Math.floor(pixel / width) / height) * CELLS);
      cells[row * CELLS + column] += 1;
    }
    paint(image.data, now.data, at, Math.min(1, by / STRONG));
  }
  map.width = width;
  map.height = height;
  map.getContext("2d").putImageData(image, 0, 0);
  const full = (width * height) / (CELLS * CELLS);
  return { canvas: map, share: changed / (width * height), places: placesIn(cells, 0.12 * full) };
}

function largest(one, other, at) {
  const red = Math.abs(one[at] - other[at]);
  const green = Math.abs(one[at + 1] - other[at + 1]);
  const blue = Math.abs(one[at + 2] - other[at + 2]);
  return Math.max(red, green, blue);
}

/** The heat over a dark grey copy of the picture. */
function paint(target, source, at, heat) {
  const grey = 0.3 * (0.3 * source[at] + 0.59 * source[at + 1] + 0.11 * source[at + 2]);
  const place = heat * (HEAT.length - 1);
  const below = Math.min(HEAT.length - 2, Math.floor(place));
  const rest = place - below;
  const strength = Math.min(1, heat * 2.5);
  for (let channel = 0; channel < 3; channel += 1) {
    const colour = HEAT[below][channel] * (1 - rest) + HEAT[below + 1][channel] * rest;
    target[at + channel] = grey * (1 - strength) + colour * strength;
  }
  target[at + 3] = 255;
}

/** Connected groups of changed cells as rectangles. */
function placesIn(cells, least) {
  const seen = new Uint8Array(cells.length);
  const found = [];
  for (let start = 0; start < cells.length; start += 1) {
    if (!seen[start] && cells[start] > least) found.push(grown(cells, least, seen, start));
  }
  found.sort((one, other) => other.weight - one.weight);
  const some = found.filter((each) => each.weight > 0.04 * found[0].weight).slice(0, 6);
  return some.map(({ left, top, right, bottom }) => ({
    x: left / CELLS,
    y: top / CELLS,
    width: (right - left + 1) / CELLS,
    height: (bottom - top + 1) / CELLS,
  }));
}

function grown(cells, least, seen, start) {
  const box = { left: CELLS, top: CELLS, right: 0, bottom: 0, weight: 0 };
  const open = [start];
  seen[start] = 1;
  while (open.length) {
    const cell = open.pop();
    const column = cell % CELLS;
    const row = (cell - column) / CELLS;
    box.left = Math.min(box.left, column);
    box.right = Math.max(box.right, column);
    box.top = Math.min(box.top, row);
    box.bottom = Math.max(box.bottom, row);
    box.weight += cells[cell];
    for (let y = Math.max(0, row - 1); y <= Math.min(CELLS - 1, row + 1); y += 1) {
      for (let x = Math.max(0, column - 1); x <= Math.min(CELLS - 1, column + 1); x += 1) {
        const next = y * CELLS + x;
        if (!seen[next] && cells[next] > least) {
          seen[next] = 1;
          open.push(next);
        }
      }
    }
  }
  return box;
}

/** Gives the memory of canvases back at once. */
export function release(node) {
  for (const canvas of node.querySelectorAll("canvas")) canvas.width = canvas.height = 0;
}

/** A canvas with the outline of a mask: a light line with a dark rim, to be seen on everything. */
export function outlineOf(mask) {
  const { width, height, data } = pixelsOf(mask);
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[4 * (y * width + x)] >= 128;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const thick = Math.max(1, Math.round(Math.max(width, height) / 340));
  const edge = [];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const here = inside(x, y);
      if (here && !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1))) edge.push([x, y]);
    }
  }
  for (const [colour, radius] of [["rgb(0 0 0 / 75%)", 2 * thick], ["#ffe14d", thick]]) {
    context.fillStyle = colour;
    for (const [x, y] of edge) context.fillRect(x - radius, y - radius, 2 * radius + 1, 2 * radius + 1);
  }
  return canvas;
}

/** A square canvas with a place of a picture and some of its surroundings. */
export function cropOf(picture, place, side = 208) {
  const [width, height] = [picture.naturalWidth, picture.naturalHeight];
  const reach = Math.min(Math.min(width, height), 1.35 * Math.max(place.width * width, place.height * height, 24));
  const left = Math.min(Math.max(0, (place.x + place.width / 2) * width - reach / 2), width - reach);
  const top = Math.min(Math.max(0, (place.y + place.height / 2) * height - reach / 2), height - reach);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  canvas.getContext("2d").drawImage(picture, left, top, reach, reach, 0, 0, side, side);
  return canvas;
}
