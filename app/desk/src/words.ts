/** How things are said on the page. */

export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((n) => String(n).padStart(2, "0"));
  return (whole >= 3600 ? `${Math.floor(whole / 3600)}:` : "") + parts.join(":");
}

export function plain(word: string): string {
  const text = word.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const LANGUAGES = new Intl.DisplayNames("en", { type: "language", fallback: "none" });

/** A skill for people: `lang.en` is English, of any other its last word counts (`product.printers`). */
export function skillName(skill: string): string {
  const [kind, ...rest] = skill.split(".");
  if (kind === "lang" && rest.length === 1 && /^[a-z]{2,3}$/.test(rest[0] ?? "")) return LANGUAGES.of(rest[0] ?? "") ?? plain(skill);
  return plain(rest.at(-1) || skill);
}

/** The address of a record, if it is one that may be shown: http(s), of an origin that the centre named. */
export function recordAddress(url: string, origins: readonly string[]): string | null {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  return parsed !== null && /^https?:$/.test(parsed.protocol) && origins.includes(parsed.origin) ? parsed.href : null;
}
