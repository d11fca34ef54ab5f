/* One rung of a ladder: a climber that strikes itself or is struck, and a contender, in this process, that waits for its lock. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { acquireLock } from 'lockpact'
import { type Child, distUrl, sleep, start } from '../support.js'
import type { Climb } from './climber.js'
import { newSpan, now, observe, overlap, type Span } from './observe.js'

export const TTL_MS = 500
/** How long the climber stays stopped at most, if the contender cannot get in. */
export interface Pause {
  atMostMs: number
}

export interface Rung {
  climb: Omit<Climb, 'dist' | 'file' | 'ttl'> & { ttl?: number }
  /** The stamp of a dead holder, which lies there at the start. */
  deadStamp?: string | undefined
  pause?: Pause
  wrap?: (file: string) => string[]
  /** Where strace, which stops it, says so. */
  trace?: string
}

interface Report {
  outcome: string
  held: boolean
  released?: boolean
  span: Span
}

export interface Result {
  struck: boolean
  /** Something lay there without a stamp when the climber died: then others must watch it for five seconds. */
  unstamped: boolean
  /** The contender got in while the climber was paused. */
  overtaken: boolean
  /** From the climber's end (or the end of its pause) until the contender was in. */
  lateMs: number
  /** From the contender's release until it was done. */
  releaseMs: number
  faults: string[]
  report: Report | undefined
}

const workshop = realpathSync(mkdtempSync(join(tmpdir(), 'lockpact-deep-')))
process.on('exit', () => rmSync(workshop, { recursive: true, force: true }))

/** Bundles a TypeScript file of this folder for plain Node: fast to start, and nothing that strace would see besides. */
export function bundle(name: string): string {
  const outfile = join(workshop, `${name}.mjs`)
  buildSync({ entryPoints: [join(import.meta.dirname, `${name}.ts`)], outfile, bundle: true, platform: 'node', format: 'esm', logLevel: 'warning' })
  return outfile
}

const climber = bundle('climber')

/** What a process leaves behind that dies holding. */
export async function stampOfTheDead(): Promise<string> {
  const file = join(mkdtempSync(join(workshop, 'dead-')), 'f')
  const body = `const { acquireLockSync } = await import(${JSON.stringify(distUrl)}); const lock = acquireLockSync(${JSON.stringify(file)})
    process.stdout.write(fs.readFileSync(lock.lockFile, 'utf8'), () => process.kill(process.pid, 'SIGKILL'))`
  const child = start([process.execPath, '--input-type=module', '-e', `import fs from 'node:fs'; ${body}`])
  await child.ended
  return child.out()
}

export function startClimber(file: string, { climb, deadStamp, wrap }: Rung): Child {
  if (deadStamp) writeFileSync(`${file}.lock`, deadStamp)
  const task: Climb = { dist: distUrl, file, ttl: TTL_MS, ...climb }
  return start([...(wrap?.(file) ?? []), process.execPath, climber, JSON.stringify(task)])
}

export async function climb(rung: Rung): Promise<Result> {
  const folder = mkdtempSync(join(workshop, 'rung-'))
  const file = join(folder, 'f')
  const child = startClimber(file, rung)
  const said = () => child.out() + (rung.trace && existsSync(rung.trace) ? readFileSync(rung.trace, 'utf8') : '')
  await seen(child, /^pid \d+$/m)
  await seen(child, /created|struck|stopped by/, said)
  // Before the contender has come, or after.
  let struckAt = STRUCK.test(said()) ? now() : undefined
  const contender = new Contender(file, pidOf(child))
  const faults: string[] = []
  const isPaused = rung.pause !== undefined && (await seen(child, STRUCK, said))
  struckAt ??= now()
  const resumedAt = isPaused ? await oversleep(child, contender, rung.pause!) : undefined
  const { code, signal } = await child.ended
  const freeAt = resumedAt ?? now()
  const unstamped = readdirSync(folder).some((name) => statSync(join(folder, name), { throwIfNoEntry: false })?.size === 0)
  const report = /^report (.*)$/m.exec(child.out())?.[1]
  const told = report === undefined ? undefined : (JSON.parse(report) as Report)
  const { entry, span, releaseMs, released } = await contender.leave()
  const gotInAt = entry.at
  if (!released) faults.push('the contender’s lock was not there any more when it released it')
  if (span.robbed) faults.push('the contender’s lock file went inside its lease')
  if (told?.span.robbed) faults.push('the climber’s lock file went inside its lease')
  if (isRobbery(entry, child.out())) faults.push('the contender got in while the climber lived, inside its lease')
  if (told && overlap(told.span, span)) faults.push(`two inside their leases: ${JSON.stringify([told.span, span])}`)
  if (signal !== 'SIGKILL' && (code !== 0 || !told)) faults.push(`the climber failed: ${code} ${signal} ${child.err()}`)
  // The contender was in and out before the climber died: then it is for the next.
  if (signal === 'SIGKILL' && gotInAt < freeAt) await (await acquireLock(file, { wait: 8_000 })).release()
  const left = readdirSync(folder)
  if (left.length > 0) faults.push(`left behind: ${left.join(', ')}`)
  const struck = isPaused || signal === 'SIGKILL'
  // Before the pause, on a loaded machine: then the climber got it after the contender.
  const overtaken = gotInAt > struckAt && gotInAt < freeAt
  return { struck, unstamped, overtaken, lateMs: gotInAt - freeAt, releaseMs, report: told, faults: faults.map((fault) => `${describe(child, rung)}: ${fault}`) }
}

const describe = (child: Child, { climb }: Pick<Rung, 'climb'>) => `${climb.steps.join(' ')}, ${JSON.stringify(climb.strike)} ${/struck.*/.exec(child.out())?.[0] ?? ''}`

/**
 * The other way round: the climber recovers a lock whose lease is over, and is stopped meanwhile; the holder, which lives in this
 * process, wakes and renews late. `renewed`: it got its lease back.
 */
export async function climbBesideSleeper(climb: Rung['climb']): Promise<{ struck: boolean; renewed: boolean; faults: string[] }> {
  const folder = mkdtempSync(join(workshop, 'rung-'))
  const file = join(folder, 'f')
  // Not confirmed for another TTL, it would be given up: the climber must have started by then.
  const ttl = 3 * TTL_MS
  const lock = await acquireLock(file, { ttl, renew: false })
  await sleep(ttl + 60)
  const child = startClimber(file, { climb })
  const struck = await seen(child, /struck/)
  const span = newSpan()
  // Stopped with the guard in its hand, the climber keeps the holder waiting: then it wakes first.
  const renewal = lock.renew().then(() => true, () => false)
  const wakes = sleep(250).then(() => child.process.kill('SIGCONT'))
  // It is not to believe before it is told, either.
  for (let looks = 0; looks < 120; looks++) {
    observe(lock, span)
    await sleep(3)
  }
  const renewed = await renewal
  await Promise.all([wakes, lock.release().catch(() => false)])
  const { code } = await child.ended
  const told = JSON.parse(/^report (.*)$/m.exec(child.out())?.[1] ?? 'null') as Report | null
  const faults: string[] = []
  if (span.robbed) faults.push('the holder’s lock file went inside its lease')
  if (told?.span.robbed) faults.push('the climber’s lock file went inside its lease')
  if (told && overlap(told.span, span)) faults.push('two inside their leases')
  if (code !== 0 || !told) faults.push(`the climber failed: ${child.err()}`)
  if (readdirSync(folder).length > 0) faults.push(`left behind: ${readdirSync(folder).join(', ')}`)
  return { struck, renewed, faults: faults.map((fault) => `${describe(child, { climb })}: ${fault}`) }
}

const STRUCK = /struck|stopped by/

/** Not strace’s, if that started it. */
const pidOf = (child: Child) => /^pid (\d+)$/m.exec(child.out())?.[1]

/** Whether the climber says so before it ends. */
async function seen(child: Child, words: RegExp, said: () => string = child.out): Promise<boolean> {
  let over = false
  void child.ended.then(() => (over = true))
  while (!over && !words.test(said())) await sleep(1)
  return words.test(said())
}

// Longer than the TTL in any case; then until the contender is in, or cannot get in.
async function oversleep(child: Child, contender: Contender, { atMostMs }: Pause): Promise<number> {
  await sleep(TTL_MS * 1.3)
  await Promise.race([contender.isIn, sleep(atMostMs - TTL_MS * 1.3)])
  process.kill(Number(pidOf(child)), 'SIGCONT')
  return now()
}

/** How the contender found the climber when it got the lock. */
interface Entry {
  at: number
  /** By the boot clock, before its lock was created. */
  bootMs: number
  besideTheLiving: boolean
}

// By what the climber has said last before that.
function isRobbery({ at, bootMs, besideTheLiving }: Entry, words: string): boolean {
  const claims = [...words.matchAll(/^lease (\S+) (\S+)$/gm)].filter(([, saidAt]) => Number(saidAt) < at)
  return besideTheLiving && bootMs < Number(claims.at(-1)?.[2] ?? 0)
}

function lives(pid: string | undefined): boolean {
  try {
    return /\) [^ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}

/** Waits for the lock, holds it under observation, and leaves when it is told, but not before it has stayed for a while. */
class Contender {
  readonly span = newSpan()
  readonly isIn: Promise<void>
  #isToLeave = false
  readonly #left: Promise<{ entry: Entry; releaseMs: number; released: boolean }>

  constructor(file: string, climber: string | undefined) {
    let tell = () => {}
    this.isIn = new Promise((resolve) => (tell = resolve))
    this.#left = this.#run(file, climber, tell)
  }

  async #run(file: string, climber: string | undefined, tell: () => void) {
    const lock = await acquireLock(file, { ttl: TTL_MS, wait: 30_000, owner: 'contender' })
    const entry = { at: now(), bootMs: lock.stamp.bootMs!, besideTheLiving: lives(climber) }
    tell()
    // Long enough that an overslept climber meets it; not for ever, as a climber may wait for the lock.
    for (let looks = 0; looks < 50 || (!this.#isToLeave && looks < 250); looks++) {
      observe(lock, this.span)
      await sleep(4)
    }
    observe(lock, this.span)
    const before = now()
    const released = await lock.release()
    return { entry, releaseMs: now() - before, released }
  }

  async leave() {
    this.#isToLeave = true
    return { ...(await this.#left), span: this.span }
  }
}

/** Calls `rung` for 1, 2, 3 … until one survives; several at a time, as they mostly wait. How many were struck below the first that survived. */
export async function upwards(width: number, rung: (number: number) => Promise<boolean>): Promise<number> {
  let number = 0
  let survivor = Infinity
  const worker = async () => {
    while (survivor === Infinity && number < 200) {
      const mine = ++number
      if (!(await rung(mine))) survivor = Math.min(survivor, mine)
    }
  }
  await Promise.all(Array.from({ length: width }, worker))
  if (survivor === Infinity) throw new Error('nobody survived 200 rungs')
  return survivor - 1
}
