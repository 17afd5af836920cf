/**
 * The file of ratings: YAML for `from` and `sweep.points`, which read the chosen points; the page reads its lines of ratings.
 * JSON strings are valid YAML, except for some characters that end a line in YAML.
 */
const quoted = (text) => JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029\ufeff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
const LARGEST_FILE = 8e6;

/** Return the text of the file. `origin` is what the page's data says for it. */
function ratingsText({ title, identity, favourites: origin }, ratings) {
  const key = (text) => (/^[A-Za-z_][\w.]*$/.test(text) ? text : quoted(text));
  const comment = (text) => text.split(/[\r\n\u0085\u2028\u2029]/).map((line) => `# ${line}\n`).join("");
  const mapping = (words) => words.map((word) => {
    const equals = word.indexOf("=");
    return `${key(word.slice(0, equals))}: ${quoted(word.slice(equals + 1))}`;
  }).join(", ");
  // Nobody has seen a point that failed, and one that cannot be rendered would have the file refused as a whole.
  const chosen = ratings.numbers(isChosen).filter((number) => ratings.points[number].state !== "failed");
  // Points that differ only in size give one print.
  const list = (field) => [...new Set(chosen.map((number) => mapping(ratings.points[number][field])))];
  const points = list("words"), { version, generation, shared, ranges } = origin;
  const lines = (name, items) => `${name}:${items.length ? "" : " []"}\n${items.map((item) => `- {${item}}\n`).join("")}`;
  const spans = Object.entries(ranges).map(([name, pair]) => `${key(name)}: ${JSON.stringify(pair)}`).join(", ");
  const entry = (rating) => RATING_KEYS.map((name) => `"${name}": ${typeof rating[name] === "string" ? quoted(rating[name]) : rating[name]}`).join(", ");
  return comment(`Ratings of ${title}. Its points have 4 stars or more, or are favourites: ${points.length}. ${origin.purpose}`) +
    comment(`  ${origin.command}`) + comment("This breeds new points from them:") + comment(`  ${origin.breed}`) +
    comment("The page of the sweep opens this file again, and merges it.") +
    `version: ${quoted(version)}\nsweep: {"id": ${quoted(identity)}, "title": ${quoted(title.slice(0, 200))}}\n` +
    `generation: ${generation}\nshared: {${mapping(shared)}}\nranges: {${spans}}\n` +
    lines("points", points) + lines("prints", list("listed")) + lines("ratings", [...ratings.byName.values()].map(entry));
}

/** Return the ratings in a file's text. Throw an error of one line for a file that is not of this sweep, or is damaged. */
function readRatings(text, { title, identity }) {
  const refuse = (problem) => { throw new Error(problem); };
  if (text.length > LARGEST_FILE) refuse(`it is larger than ${LARGEST_FILE / 1e6} MB, which no file of ratings is`);
  const lines = text.split(/\r?\n/), sweep = lines.find((line) => line.startsWith("sweep: "));
  const start = lines.findIndex((line) => /^ratings:( \[\])?$/.test(line));
  let origin = null;
  try {
    origin = JSON.parse(sweep.slice("sweep: ".length));
  } catch {
    // Refused below.
  }
  if (start < 0 || typeof origin?.id !== "string") refuse("it has no ratings: open a file that “Save ratings” on a sweep's page has made");
  if (origin.id !== identity) refuse(`it is of another sweep, ${plainNote(String(origin.title)).replaceAll("\n", " ").slice(0, 80)}: open it on that page; this one is of ${title}`);
  const entries = new Map();
  for (let at = start + 1; at < lines.length; at++) {
    if (!lines[at].trim() || lines[at].startsWith("#")) continue;
    if (!lines[at].startsWith("- ")) refuse(`line ${at + 1} is no rating: nothing was taken from it`);
    try {
      const rating = checkedRating(JSON.parse(lines[at].slice(2)));
      entries.set(rating.point, rating);
    } catch (error) {
      refuse(`line ${at + 1} ${error instanceof SyntaxError ? "cannot be read" : error.message}: nothing was taken from it`);
    }
    if (entries.size > MOST_RATINGS) refuse(`it has more than ${MOST_RATINGS.toLocaleString("en")} ratings, more than a sweep has points`);
  }
  return [...entries.values()];
}
