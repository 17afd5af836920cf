/** ZIP files of files that are stored as they are: pictures are compressed already. APPNOTE.TXT 6.3.10, without ZIP64. */
const LARGEST_ARCHIVE = 2 ** 32 - 1, MOST_FILES = 65534;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? 0xedb88320 ^ (sum >>> 1) : sum >>> 1;
  return sum;
});

/** Return the CRC-32 of a blob, read piece by piece. */
async function checksum(blob) {
  let sum = 0xffffffff;
  for (const reader = blob.stream().getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return (sum ^ 0xffffffff) >>> 0;
    for (const byte of value) sum = CRC_TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  }
}

/** Return the bytes of numbers, each given as [value, bytes], the least byte first. */
function littleEndian(...numbers) {
  return Uint8Array.from(numbers.flatMap(([value, size]) => Array.from({ length: size }, (_, byte) => Math.floor(value / 256 ** byte) % 256)));
}

/**
 * Return a ZIP file of [name, blob]s as a blob. Contents stay where the browser has them: only heads are made.
 * Throw an error if it would be larger than such a file may be.
 */
async function archive(files) {
  const parts = [], directory = [], encoder = new TextEncoder();
  const date = new Date(), stamp = [(date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1),
    ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate()];
  let offset = 0;
  if (files.length > MOST_FILES) throw new Error(`a ZIP file holds ${MOST_FILES.toLocaleString("en")} files: choose fewer`);
  for (const [name, blob] of files) {
    const path = encoder.encode(name);
    // Version 2.0, names in UTF-8, stored.
    const head = [[20, 2], [0x800, 2], [0, 2], [stamp[0], 2], [stamp[1], 2], [await checksum(blob), 4], [blob.size, 4], [blob.size, 4], [path.length, 2], [0, 2]];
    directory.push(littleEndian([0x02014b50, 4], [20, 2], ...head, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), path);
    const begin = littleEndian([0x04034b50, 4], ...head);
    parts.push(begin, path, blob);
    offset += begin.length + path.length + blob.size;
    if (offset > LARGEST_ARCHIVE) throw new Error("a ZIP file holds 4 GB: choose fewer, or take the list of the files");
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  if (offset + size > LARGEST_ARCHIVE) throw new Error("a ZIP file holds 4 GB: choose fewer, or take the list of the files");
  const end = littleEndian([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
