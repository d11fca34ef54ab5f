import { LockError } from './error.js'
import { show } from './text.js'

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
  throw new LockError(
    'EINVAL',
    `${name} must be milliseconds or a text like '500ms', '90s', '10m', '1h' or '1d', not ${show(value)}`,
  )
}
