// Loads pictures once, decodes them before they are shown, and lets go of those not seen lately.

const KEPT = 8;
const loaded = new Map();

/** A decoded picture; rejects if it cannot be loaded. */
export function picture(address) {
  const known = loaded.get(address);
  loaded.delete(address);
  const promise = known ?? load(address);
  loaded.set(address, promise);
  for (const old of loaded.keys()) {
    if (loaded.size <= KEPT) break;
    loaded.delete(old);
  }
  return promise;
}

async function load(address) {
  const image = new Image();
  image.decoding = "async";
  image.src = address;
  try {
    await image.decode();
  } catch {
    loaded.delete(address);
    throw new Error("This picture cannot be loaded.");
  }
  return image;
}
