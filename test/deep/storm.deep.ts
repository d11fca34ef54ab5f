/* Six processes on one file, while others of them are killed and stopped at random. */
import { appendFileSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock, sweepLocks } from 'lockpact'
import { afterAll, expect, test } from 'vitest'
import { type Child, distUrl, sleep, start, tempFolder } from '../support.js'
import { bundle } from './rung.js'
import type { Line } from './stormer.js'

const PROCESSES = 6
const STORM_MS = 10_000
/** It goes on until there have been so many, for a minute at most: where somebody dies between creating and writing, nobody gets in for five seconds. */
const HOLDS = 1_000
const storms: { name: string; kills: boolean; stops: boolean }[] = [
  { name: 'SIGKILL', kills: true, stops: false },
  { name: 'SIGSTOP beyond the TTL', kills: false, stops: true },
  { name: 'both', kills: true, stops: true },
]

const total = { holds: 0, kills: 0, stops: 0, recoveries: 0 }
afterAll(() => console.log(`storms, in all: ${total.holds} holds, ${total.kills} kills, ${total.stops} stops, ${total.recoveries} recoveries`))

for (const { name, kills, stops } of storms) {
  test(`storm of ${name}: no two inside their leases, nobody inside its lease is robbed`, async () => {
    const folder = tempFolder()
    const storm = new Storm(folder, bundle('stormer'))
    await storm.rage(kills, stops)
    const [faults, facts] = judge(storm.lines())
    expect(faults.slice(0, 5)).toEqual([])
    const lock = await acquireLock(storm.file, { wait: 8_000 })
    expect(await lock.release()).toBe(true)
    await sweepLocks(folder)
    expect(readdirSync(folder)).toEqual(['journal'])
    expect(facts.holds).toBeGreaterThanOrEqual(HOLDS)
    // Some were struck while they held.
    expect(facts.recoveries).toBeGreaterThan(0)
    expect(facts.ofTheDead + facts.overtaken).toBeGreaterThan(0)
    total.holds += facts.holds
    total.recoveries += facts.recoveries
    total.kills += storm.kills
    total.stops += storm.stops
    const strikes = `${storm.kills} kills (${facts.ofTheDead} of a holder), ${storm.stops} stops (${facts.overtaken} holders overtaken after their lease)`
    console.log(`storm of ${name}: ${facts.holds} holds, ${facts.recoveries} recoveries, ${strikes}`)
  })
}

class Storm {
  kills = 0
  stops = 0
  readonly file: string
  readonly #journal: string
  readonly #program: string
  readonly #stopped = new Map<Child, Promise<void>>()
  #processes: Child[] = []

  constructor(folder: string, program: string) {
    this.file = join(folder, 'f')
    this.#journal = join(folder, 'journal')
    this.#program = program
  }

  async rage(kills: boolean, stops: boolean): Promise<void> {
    this.#processes = Array.from({ length: PROCESSES }, () => this.#start())
    await sleep(300)
    for (const begin = Date.now(); this.#goesOn(Date.now() - begin); ) {
      const victim = this.#victim()
      const isSpared = victim === this.#processes[0]
      if (kills && !isSpared && (!stops || Math.random() < 0.5)) this.#kill(victim)
      else if (stops) this.#stop(victim)
      await sleep(20 + Math.random() * 160)
    }
    await Promise.all(this.#stopped.values())
    for (const child of this.#processes) child.process.stdin!.end('stop')
    for (const child of this.#processes) expect(await child.ended, child.err()).toEqual({ code: 0, signal: null })
  }

  lines(): Line[] {
    return readFileSync(this.#journal, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Line)
  }

  #goesOn(ms: number): boolean {
    const holds = () => readFileSync(this.#journal, 'utf8').split('"type":"start"').length - 1
    return ms < STORM_MS || (ms < 6 * STORM_MS && holds() < HOLDS)
  }

  #start(): Child {
    return start([process.execPath, this.#program, distUrl, this.file, this.#journal])
  }

  // Half of the time whoever seems to be the holder.
  #victim(): Child {
    const any = this.#processes[Math.floor(Math.random() * PROCESSES)]!
    if (Math.random() < 0.5) return any
    try {
      const pid = Number(/"pid":(\d+)/.exec(readFileSync(`${this.file}.lock`, 'utf8'))?.[1])
      return this.#processes.find((child) => child.pid === pid) ?? any
    } catch {
      return any
    }
  }

  // Not the first: the others do not live long enough to watch an empty file for five seconds.
  #kill(victim: Child): void {
    // Said before it is done: what it holds may be taken from now on.
    appendFileSync(this.#journal, `${JSON.stringify({ type: 'killed', pid: victim.pid })}\n`)
    victim.process.kill('SIGKILL')
    this.#processes[this.#processes.indexOf(victim)] = this.#start()
    this.kills++
  }

  #stop(victim: Child): void {
    if (this.#stopped.has(victim)) return
    victim.process.kill('SIGSTOP')
    this.stops++
    const over = sleep(450 + Math.random() * 400).then(() => {
      victim.process.kill('SIGCONT')
      this.#stopped.delete(victim)
    })
    this.#stopped.set(victim, over)
  }
}

interface Hold {
  id: string
  pid: number
  leaseEnds: number
}

/** Reads the journal from top to bottom: who starts, or still holds, must find every other hold ended, killed, or its lease over. */
function judge(lines: Line[]): [faults: string[], facts: { holds: number; recoveries: number; overtaken: number; ofTheDead: number }] {
  const faults: string[] = []
  const facts = { holds: 0, recoveries: 0, overtaken: 0, ofTheDead: 0 }
  const open = new Map<string, Hold>()
  const starts = new Map<string, number>()
  const killed = new Set<number>()
  let newest = { id: '', at: 0 }
  for (const { type, pid, id = '', at = 0, leaseEnds = 0, recovered, words } of lines) {
    if (type === 'robbed' || type === 'failed') faults.push(`${type}: ${pid} ${id} ${words ?? ''}`)
    if (type === 'killed') killed.add(pid)
    if (type === 'end') open.delete(id)
    // Written late, perhaps, but true at `at`, which is off by a hundredth: nobody else may have started before that.
    if (type === 'still' && newest.id !== id && (starts.get(id) ?? Infinity) < newest.at && at > newest.at + 10)
      faults.push(`${pid} ${id} still held at ${at}, after ${newest.id} started at ${newest.at}`)
    if (type === 'still' && open.has(id)) open.set(id, { id, pid, leaseEnds })
    if (type !== 'start') continue
    facts.holds++
    if (recovered) facts.recoveries++
    starts.set(id, at)
    // It was stopped between `held` and this line, and somebody else has started since.
    if (at < newest.at) {
      if (leaseEnds > newest.at + 10) faults.push(`${newest.id} started at ${newest.at}, inside the lease of ${pid} ${id} until ${leaseEnds}`)
      else facts.overtaken++
      continue
    }
    for (const other of open.values()) {
      if (killed.has(other.pid)) facts.ofTheDead++
      else if (other.leaseEnds > at + 10) faults.push(`${pid} ${id} started at ${at}, inside the lease of ${other.pid} ${other.id} until ${other.leaseEnds}`)
      else facts.overtaken++
      open.delete(other.id)
    }
    open.set(id, { id, pid, leaseEnds })
    newest = { id, at }
  }
  return [faults, facts]
}
