/** Limits of ratings, whoever wrote them. */
const MOST_STARS = 5, LONGEST_NOTE = 2000, LONGEST_NAME = 400, MOST_RATINGS = 20000;
const UNRATED = Object.freeze({ stars: 0, favourite: false, rejected: false, note: "", time: 0 });
const RATING_KEYS = ["point", "stars", "favourite", "rejected", "note", "time"];

/**
 * Return a rating from anybody's data: {point, stars, favourite, rejected, note, time}, time in seconds since the epoch.
 * Throw an error that says what is wrong with it.
 */
function checkedRating(entry) {
  if (entry === null || typeof entry !== "object" || Array.isArray(entry)) throw new Error("is no rating");
  const unknown = Object.keys(entry).find((key) => !RATING_KEYS.includes(key));
  if (unknown !== undefined) throw new Error(`has ${JSON.stringify(unknown.slice(0, 40))}, which no rating has`);
  const { point, stars, favourite, rejected, note, time } = { ...UNRATED, ...entry };
  const isName = typeof point === "string" && point.length > 0 && point.length <= LONGEST_NAME;
  if (!isName) throw new Error("names no point");
  if (!Number.isInteger(stars) || stars < 0 || stars > MOST_STARS) throw new Error(`has stars that are not 0 to ${MOST_STARS}`);
  if (typeof favourite !== "boolean" || typeof rejected !== "boolean") throw new Error("has a favourite or rejected that is not true or false");
  if (typeof note !== "string" || note.length > LONGEST_NOTE) throw new Error(`has a note of more than ${LONGEST_NOTE} characters`);
  if (!Number.isFinite(time) || time < 0) throw new Error("has a time that is no number of seconds");
  // A clock that was ahead must not win against all later ratings.
  return { point, stars, favourite, rejected, note: plainNote(note), time: Math.min(Math.floor(time), now()) };
}

const now = () => Math.floor(Date.now() / 1000);

/** Return a note without control characters other than line breaks. */
function plainNote(note) {
  return note.replace(/\r\n?/g, "\n").replace(/[\u0000-\u0009\u000b-\u001f\u007f]/g, " ");
}

/** Return the newer of two ratings of a point, with both notes if they differ, so that no words are lost. */
function mergedRating(mine, theirs) {
  const [older, newer] = mine.time > theirs.time ? [theirs, mine] : [mine, theirs];
  const joined = `${older.note}\n${newer.note}`;
  const note = newer.note.includes(older.note) ? newer.note : older.note.includes(newer.note) ? older.note
    : joined.length <= LONGEST_NOTE ? joined : mine.note;
  return { ...newer, note };
}

const isChosen = ({ stars, favourite, rejected }) => !rejected && (favourite || stars >= 4);
const isRated = ({ stars, favourite, rejected, note }) => stars > 0 || favourite || rejected || note !== "";

/** Ratings of a sweep's points, by point name; stored in the browser if it permits that. */
class Ratings {
  constructor({ storage, points }) {
    [this.storage, this.points] = [storage, points];
    this.byName = new Map();
    this.read();
  }

  /** Read what the browser stores; it may have ratings of points from other commands of the sweep. */
  read() {
    try {
      const stored = JSON.parse(localStorage.getItem(this.storage.ratings));
      // Pages of earlier versions stored the names of favourites.
      const entries = stored?.ratings ?? (JSON.parse(localStorage.getItem(this.storage.favourites)) ?? []).map((point) => ({ point, favourite: true }));
      this.byName = new Map(entries.slice(0, MOST_RATINGS).flatMap((entry) => {
        try {
          const rating = checkedRating(entry);
          return [[rating.point, rating]];
        } catch {
          return [];
        }
      }));
    } catch {
      // Without storage, ratings last as long as the page is open.
    }
  }

  of(number) {
    return this.byName.get(this.points[number]?.id) ?? UNRATED;
  }

  /** Return the numbers of the points on the page whose ratings pass a test. */
  numbers(test) {
    return [...this.points.keys()].filter((number) => test(this.of(number)));
  }

  /** Change a rating; return false if the browser does not store it. */
  set(number, changes) {
    const { id } = this.points[number];
    this.byName.set(id, { ...this.of(number), ...changes, point: id, time: now() });
    return this.store();
  }

  store() {
    try {
      localStorage.setItem(this.storage.ratings, JSON.stringify({ version: 1, ratings: [...this.byName.values()] }));
      return true;
    } catch {
      return false;
    }
  }

  /** Merge ratings from a file; return {changed, undo}: the number of ratings that differ now, and a function that takes it back. */
  merge(entries) {
    const before = new Map(this.byName), text = (rating) => JSON.stringify({ ...rating, time: 0 }, RATING_KEYS);
    let changed = 0;
    for (const theirs of entries) {
      const mine = this.byName.get(theirs.point), merged = mine ? mergedRating(mine, theirs) : theirs;
      if (mine ? text(mine) !== text(merged) : isRated(merged)) changed += 1;
      this.byName.set(theirs.point, merged);
    }
    this.store();
    return { changed, undo: () => {
      this.byName = before;
      this.store();
    } };
  }
}

/** Offer a file for saving. */
function saveFile(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content].flat(), { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
