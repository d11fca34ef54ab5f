// Control characters, line breaks of all kinds, and what turns the direction of writing around.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g

/** A text in one line: no control characters, wherever it came from. */
export function plain(text: string): string {
  return text.replace(UNPRINTABLE, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/** A value as it appears in a message: short, and in one line. */
export function show(value: unknown): string {
  const text =
    typeof value === 'string'
      ? JSON.stringify(value)
      : typeof value === 'object' && value !== null
        ? Object.prototype.toString.call(value)
        : String(value)
  return plain(text.length > 80 ? `${text.slice(0, 77)}…` : text)
}

/** A word for a shell, in one line: what is no plain word is quoted. */
export function quoted(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word
  const single = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
  if (plain(word) === word) return single(word)
  const octal = (character: string) => [...Buffer.from(character)].map((byte) => `\\0${byte.toString(8).padStart(3, '0')}`).join('')
  const escaped = word.replaceAll('\\', '\\\\').replace(UNPRINTABLE, octal)
  return `"$(printf %b ${single(escaped)})"`
}

const UNITS = [
  { unit: 'days', size: 86_400_000 },
  { unit: 'h', size: 3_600_000 },
  { unit: 'min', size: 60_000 },
  { unit: 's', size: 1000 },
]

/** How long ago a time (ISO) is, for people; `-` where there is none. */
export function ago(at: string | null | undefined, now = Date.now()): string {
  const ms = now - Date.parse(at ?? '')
  return Number.isNaN(ms) ? '-' : `${forPeople(Math.max(0, ms))} ago`
}

/** A length of time for people: in the largest unit of which there are two or more. */
export function forPeople(ms: number): string {
  const { unit, size } =
    UNITS.find(({ size }) => ms >= 2 * size) ?? (ms >= 1000 ? { unit: 's', size: 1000 } : { unit: 'ms', size: 1 })
  return `${Math.floor(ms / size)} ${unit}`
}
