/*
 * One process of a storm: takes and releases one lock until it is told to stop, and journals every hold. A line is written with one
 * write to an O_APPEND descriptor: the order of the lines is the order of the writes.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import type { Lock } from 'lockpact'
import { isMine, leaseEnd } from './observe.js'

/** One line of the journal. Times are milliseconds of /proc/uptime, which counts hundredths. */
export interface Line {
  type: 'start' | 'still' | 'end' | 'robbed' | 'killed' | 'failed'
  pid: number
  id?: string
  /** Read before `held` was true. */
  at?: number
  /** By the holder's own reckoning. */
  leaseEnds?: number
  recovered?: boolean
  words?: string
}

const [dist, file, journalPath] = process.argv.slice(2) as [string, string, string]
const journal = openSync(journalPath, 'a')
const append = (line: Omit<Line, 'pid'>) => writeSync(journal, `${JSON.stringify({ pid: process.pid, ...line })}\n`)
const uptime = () => Math.round(Number.parseFloat(readFileSync('/proc/uptime', 'latin1')) * 1000)
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
const { acquireLock, isLockError } = (await import(dist)) as typeof import('lockpact')

let isOver = false
process.stdin.on('data', () => (isOver = true)).unref()

// Time first, file second, `held` last: what is held then was held at that time, and its file was not to go.
function tell(lock: Lock, type: 'start' | 'still'): void {
  const at = uptime()
  const isThere = isMine(lock)
  const leaseEnds = leaseEnd(lock.stamp)
  if (!lock.held) return
  append({ type: isThere ? type : 'robbed', id: lock.id, at, leaseEnds, recovered: lock.recovered !== undefined })
}

async function hold(): Promise<void> {
  const lock = await acquireLock(file, { ttl: 250 + Math.random() * 150, renew: Math.random() < 0.3, wait: 60_000 })
  try {
    tell(lock, 'start')
    for (let looks = Math.random() * 3; looks > 0; looks--) {
      if (Math.random() < 0.3) await sleep(Math.random() * 4)
      if (Math.random() < 0.2) await lock.renew()
      tell(lock, 'still')
    }
  } finally {
    append({ type: 'end', id: lock.id })
    await lock.release()
  }
}

while (!isOver) {
  try {
    await hold()
  } catch (error) {
    // Overslept, and told so.
    if (!isLockError(error) || !['ECOMPROMISED', 'ELOCKED'].includes(error.code)) {
      append({ type: 'failed', words: String(error) })
      throw error
    }
  }
  // Others first: who releases would be the next for ever.
  await sleep(Math.random() * 3)
}
closeSync(journal)
process.exit()
