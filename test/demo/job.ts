/*
 * One job: takes the first open item of the queue, does it, ticks it and logs it, until no item is open.
 *
 * With locks, it holds the lock of a file from reading to writing it. Without, it takes the same steps: the lock that `holding`
 * hands in, or does not, is all the difference.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type Lock, type LockEvent, withLock } from 'lockpact'
import { type Entry, note } from './journal.js'
import { claim, firstOpen, reopen, subject, tick } from './queue.js'
import { type Job, thinkMs } from './schedule.js'

export interface Order extends Job {
  folder: string
  locks: boolean
}

const { name, folder, locks, startAfterMs, workMs, killedAtItem }: Order = JSON.parse(process.argv[2]!)
const queueFile = join(folder, 'memory/contribution-queue.md')
const logFile = join(folder, 'memory/heartbeat-log.md')
const journal = (entry: Entry) => note(folder, name, entry)

async function work(): Promise<void> {
  await pause(startAfterMs)
  for (let count = 1; ; count++) {
    const item = await takeItem(count)
    if (item === undefined) return
    await pause(workMs)
    journal({ what: 'done', item })
    await tickItem(item)
    await logItem(item)
  }
}

async function takeItem(count: number): Promise<string | undefined> {
  return holding(queueFile, async (lock) => {
    const queue = readQueue(lock)
    await pause(thinkMs)
    const item = firstOpen(queue)
    if (item === undefined) return undefined
    write(queueFile, claim(queue, item, name), lock)
    journal({ what: 'claimed', item })
    if (count === killedAtItem) await waitForTheKill()
    return item
  })
}

async function tickItem(item: string): Promise<void> {
  await holding(queueFile, async (lock) => {
    const queue = readQueue(lock)
    await pause(thinkMs)
    write(queueFile, tick(queue, item, name), lock)
    journal({ what: 'ticked', item })
  })
}

async function logItem(item: string): Promise<void> {
  await holding(logFile, async (lock) => {
    const log = readFileSync(logFile, 'utf8')
    await pause(thinkMs)
    const line = `${new Date().toISOString().slice(0, 16)}Z slot-176 ${name} — shipped: ${subject(item)}`
    write(logFile, `${log}${line}\n`, lock)
    journal({ what: 'logged', line })
  })
}

async function holding<T>(file: string, change: (lock?: Lock) => Promise<T>): Promise<T> {
  if (!locks) return change()
  return withLock(file, { owner: name, wait: '30s', onEvent: noteWait }, change)
}

// The lock of a holder that died says who that was, and names are unique here: what it had claimed is open again. A job that dies
// while it works holds no lock, and nobody is told; its claim would need a time at which it ends.
function readQueue(lock?: Lock): string {
  const queue = readFileSync(queueFile, 'utf8')
  const dead = lock?.recovered?.owner
  if (dead === undefined) return queue
  journal({ what: 'recovered', from: dead })
  return reopen(queue, dead)
}

// In one step, so that nobody reads half a file: what the run without locks shows is not even that.
function write(file: string, text: string, lock?: Lock): void {
  const next = `${file}.${name}.new`
  writeFileSync(next, text)
  lock?.assertHeld()
  renameSync(next, file)
}

function noteWait({ type, file, ms = 0 }: LockEvent): void {
  if (type === 'acquired') journal({ what: 'locked', file: basename(file), waitedMs: ms })
}

async function waitForTheKill(): Promise<void> {
  process.send!('holding')
  await new Promise(() => {})
}

process.on('disconnect', () => process.exit())
process.once('message', () => work().then(() => process.disconnect()))
process.send!('ready')
