/*
 * What a run did to the shared files: the jobs' journals against the files.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Dated, readJournals } from './journal.js'
import { type Item, itemsIn, parseItem } from './queue.js'
import { type Run, sample } from './run.js'
import { jobs } from './schedule.js'

export interface Result {
  /** Open items at the start. */
  items: number
  /** How often a job did an item from beginning to end. */
  workDone: number
  doneTwice: number
  neverDone: number
  ticksLost: number
  logLinesLost: number
  /** Lines that were in the files before the run. */
  oldLinesLost: number
  locksLeft: number
  killed: Fate
  /** How long the next job still waited for the lock after the kill; null without locks, where nobody waits. */
  waitedAfterKillMs: number | null
  wallMs: number
}

/** What became of the item that the killed job had just claimed. */
export interface Fate {
  job: string
  item: string
  outcome: string
}

export function measure({ folder, killedAt, wallMs }: Run): Result {
  const journal = readJournals(folder, jobs.map((job) => job.name))
  const before = readMemory(sample)
  const after = readMemory(join(folder, 'memory'))
  const items = itemsIn(before.queue).filter((item) => item.mark === ' ').map((item) => item.text)
  const timesDone = items.map((item) => journal.filter((entry) => entry.what === 'done' && entry.item === item).length)
  return {
    items: items.length,
    workDone: timesDone.reduce((sum, times) => sum + times, 0),
    doneTwice: timesDone.filter((times) => times > 1).length,
    neverDone: timesDone.filter((times) => times === 0).length,
    ticksLost: missing(ticksOf(journal), ticksIn(after.queue)),
    logLinesLost: missing(linesLogged(journal), after.log.split('\n')),
    oldLinesLost: missing(oldLines(before), oldLines(after)),
    locksLeft: after.names.filter((name) => name.includes('.lock')).length,
    killed: fateOfKilled(journal, itemsIn(after.queue)),
    waitedAfterKillMs: waitAfter(killedAt, journal),
    wallMs: Math.round(wallMs),
  }
}

export function isDamaged({ doneTwice, neverDone, ticksLost, logLinesLost, oldLinesLost, locksLeft }: Result): boolean {
  return doneTwice + neverDone + ticksLost + logLinesLost + oldLinesLost + locksLeft > 0
}

interface Memory {
  queue: string
  log: string
  names: string[]
}

function readMemory(folder: string): Memory {
  const read = (name: string) => readFileSync(join(folder, name), 'utf8')
  return { queue: read('contribution-queue.md'), log: read('heartbeat-log.md'), names: readdirSync(folder) }
}

function ticksOf(journal: Dated[]): string[] {
  return journal.flatMap((entry) => (entry.what === 'ticked' ? `${entry.item} @${entry.job}` : []))
}

function ticksIn(queue: string): string[] {
  return itemsIn(queue).flatMap(({ mark, text, job }) => (mark === 'x' ? `${text} @${job}` : []))
}

function linesLogged(journal: Dated[]): string[] {
  return journal.flatMap((entry) => (entry.what === 'logged' ? entry.line : []))
}

// An item is the same line whatever its mark.
function oldLines({ queue, log }: Memory): string[] {
  return [...queue.split('\n').map((line) => parseItem(line)?.text ?? line), ...log.split('\n')]
}

/** How many of the texts are not there; a text that is wanted twice has to be there twice. */
function missing(wanted: string[], found: string[]): number {
  const left = [...found]
  return wanted.filter((text) => {
    const place = left.indexOf(text)
    if (place >= 0) left.splice(place, 1)
    return place < 0
  }).length
}

function fateOfKilled(journal: Dated[], items: Item[]): Fate {
  const { name: job } = jobs.find(({ killedAtItem }) => killedAtItem !== undefined)!
  const item = journal.flatMap((entry) => (entry.what === 'claimed' && entry.job === job ? entry.item : [])).at(-1)!
  return { job, item, outcome: outcomeOf(items.find(({ text }) => text === item)) }
}

function outcomeOf(item: Item | undefined): string {
  if (item === undefined) return 'lost'
  if (item.mark === 'x') return `done by ${item.job}`
  return item.mark === '~' ? 'left claimed' : 'open'
}

// Who asks for the lock after the kill has waited since then, and not since the kill.
function waitAfter(killedAt: number, journal: Dated[]): number | null {
  const next = journal.find((entry) => entry.what === 'locked' && entry.file === 'contribution-queue.md' && entry.at >= killedAt)
  return next?.what === 'locked' ? Math.min(next.waitedMs, next.at - killedAt) : null
}
