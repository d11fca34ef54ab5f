import { LockError } from './error.js'

/**
 * A length of time: milliseconds, or a number with its unit: `'500ms'`, `'90s'`, `'10m'`, `'1h'`, `'1d'`.
 *
 * @example '10m' // the same as 600_000
 */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Milliseconds of a duration. Throws `EINVAL` for anything that is not a length of time; `Infinity` is one. */
export function toMs(value: unknown, name: string): number {
  const parts = typeof value === 'string' ? /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(value) : null
  const ms = parts ? Number(parts[1]) * UNITS[parts[2]!]! : value
  if (typeof ms === 'number' && ms >= 0) return ms
  throw new LockError('EINVAL', `${name} must be milliseconds or a text like '500ms', '90s', '10m', '1h' or '1d', not ${show(value)}`)
}

/** A length of time for people: `'3 min'`. Two hours and more are counted in hours, two days and more in days. */
export function forPeople(ms: number): string {
  const [unit, size] = ms < 1000 ? ['ms', 1] : ms < 120_000 ? ['s', 1000] : ms < 7_200_000 ? ['min', 60_000] : ms < 172_800_000 ? ['h', 3_600_000] : ['days', 86_400_000]
  return `${Math.floor(ms / (size as number))} ${unit}`
}

/** A value as it appears in a message: short, and on one line. */
export function show(value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return text.length > 80 ? `${text.slice(0, 77)}…` : text
}
