import { readFileSync } from 'node:fs'
import type { Lock, Stamp } from 'lockpact'

/** What a holder saw of its own lock: the span in which `held` was true, in milliseconds of the machine's clock. */
export interface Span {
  from: number
  to: number
  /** `held` was true after the lock file had been found gone, or another's. */
  robbed: boolean
}

// CLOCK_MONOTONIC, on Linux one clock for all processes; /proc/uptime has only hundredths.
export const now = () => Number(process.hrtime.bigint()) / 1e6

export function newSpan(): Span {
  return { from: Infinity, to: -Infinity, robbed: false }
}

/**
 * Looks once. Time first, file second (unless that is to be left alone), `held` last: what is held then was held at that time, and its
 * file was not to go.
 */
export function observe(lock: Lock, span: Span, looksAtFile = true): void {
  const at = now()
  const isThere = !looksAtFile || isMine(lock)
  if (!lock.held) return
  span.from = Math.min(span.from, at)
  span.to = Math.max(span.to, at)
  if (!isThere) span.robbed = true
}

export function isMine({ lockFile, id }: Lock): boolean {
  try {
    return readFileSync(lockFile, 'utf8').includes(id)
  } catch {
    return false
  }
}

const GRANULARITY_MS = 50

/** Until when its holder may believe in it, by the boot clock: whoever comes earlier is a robber. */
export const leaseEnd = ({ bootMs, ttlMs }: Readonly<Stamp>) => bootMs! + ttlMs! - GRANULARITY_MS

export const overlap = (one: Span, other: Span) => Math.max(one.from, other.from) < Math.min(one.to, other.to)
