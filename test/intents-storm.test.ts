/*
 * A storm on the registry: real processes, random write sets, random kills. Each task journals when it asks, waits, has been admitted,
 * and is about to release; the journal, a file that all append to, is then read as what happened.
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect } from 'vitest'
import { declareWrites, initWorkspace, listIntents, readEvents } from '../dist/work.js'
import { test } from './remote.js'
import { projectFolder, sleep } from './support.js'

const PROCESSES = 8
const TASKS = 8
const KILLS = 4
const POOL = ['memory', 'memory/a.md', 'memory/b.md', 'memory/b.md::head', 'memory/b.md::tail', 'reports', 'reports/x', 'roster.md', 'name:deploy']

/** By hand: which of the pool touch each other. */
const TOUCHES: Record<string, string[]> = {
  memory: ['memory/a.md', 'memory/b.md', 'memory/b.md::head', 'memory/b.md::tail'],
  'memory/b.md': ['memory/b.md::head', 'memory/b.md::tail'],
  reports: ['reports/x'],
}
const touch = (one: string, other: string) => one === other || TOUCHES[one]?.includes(other) || TOUCHES[other]?.includes(one) || false

interface Line {
  what: 'asks' | 'queued' | 'admitted' | 'releasing' | 'released' | 'killed'
  pid: number
  task: string
  writes: string[]
}

/** Runs in each process: `count` tasks, side by side. */
const worker = (journal: string, count: number) => `(async () => {
  const tell = (what, task, writes) => fs.appendFileSync(${JSON.stringify(journal)}, JSON.stringify({ what, pid: process.pid, task, writes }) + '\\n')
  const random = (below) => Math.floor(Math.random() * below)
  const pool = ${JSON.stringify(POOL)}
  await Promise.all(Array.from({ length: ${count} }, async (_, n) => {
    await sleep(random(2_000))
    const task = process.pid + '-' + n
    const writes = [...new Set(Array.from({ length: 1 + random(3) }, () => pool[random(pool.length)]))]
    tell('asks', task, writes)
    const intent = await declareWrites({ task, writes, policy: 'queue', pid: process.pid, onConflict: () => tell('queued', task, writes) })
    tell('admitted', task, writes)
    await sleep(random(60))
    tell('releasing', task, writes)
    if (await intent.release()) tell('released', task, writes)
  }))
})()`

test('a storm of tasks that overlap, with kills: never two at once, first come first served, all of it drains', { timeout: 90_000 }, async ({ folder, node }) => {
  const { dir } = initWorkspace(folder)
  const journal = join(dir, 'journal.jsonl')
  const workUrl = pathToFileURL(join(projectFolder, 'dist/work.js')).href
  const processes = await Promise.all(Array.from({ length: PROCESSES }, () => node({ dist: workUrl, cwd: dir })))
  const runs = processes.map((each) => each.ask(worker(journal, TASKS)))
  const ends = Promise.allSettled(runs)
  for (const victim of processes.slice(0, KILLS)) {
    await sleep(400 + Math.random() * 900)
    fs.appendFileSync(journal, `${JSON.stringify({ what: 'killed', pid: victim.pid, task: '', writes: [] })}\n`)
    await victim.kill()
  }
  expect((await ends).slice(KILLS).map((end) => (end.status === 'rejected' ? String(end.reason) : 'drained'))).toEqual(Array(PROCESSES - KILLS).fill('drained'))

  const lines = fs.readFileSync(journal, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line) as Line)
  const killed = new Set(lines.filter(({ what }) => what === 'killed').map(({ pid }) => pid))
  const overlaps = (one: Line, other: Line) => one.writes.some((ours) => other.writes.some((theirs) => touch(ours, theirs)))
  const counts = { lines: lines.length, admitted: 0, waited: 0, pairs: 0, ordered: 0, cutOff: 0 }

  // Never two at once. Whoever is killed has it no longer.
  const active = new Map<string, Line>()
  const gone = new Set<number>()
  for (const line of lines) {
    if (line.what === 'killed') {
      gone.add(line.pid)
      for (const [task, { pid }] of active) if (pid === line.pid && active.delete(task)) counts.cutOff++
    } else if (line.what === 'admitted' && !gone.has(line.pid)) {
      for (const other of active.values()) {
        counts.pairs++
        expect(overlaps(line, other), `${line.task} (${line.writes.join()}) while ${other.task} (${other.writes.join()})`).toBe(false)
      }
      active.set(line.task, line)
      counts.admitted++
    } else if (line.what === 'releasing') active.delete(line.task)
  }
  expect(active.size).toBe(0)

  // First come first served: who asked when another was known to wait comes after it.
  const at = (what: Line['what'], task: string) => lines.findIndex((line) => line.what === what && line.task === task)
  const survivors = lines.filter(({ what, pid }) => what === 'asks' && !killed.has(pid))
  for (const first of survivors) {
    const waits = at('queued', first.task)
    if (waits < 0) continue
    counts.waited++
    for (const second of survivors) {
      if (at('asks', second.task) < waits || !overlaps(first, second)) continue
      counts.ordered++
      expect(at('admitted', first.task), `${first.task} before ${second.task}`).toBeLessThan(at('admitted', second.task))
    }
  }

  // All of it drains: of the survivors everything, of the killed what they left is dead, and in nobody's way.
  for (const { task } of survivors) expect(at('released', task), task).toBeGreaterThan(0)
  expect(survivors).toHaveLength((PROCESSES - KILLS) * TASKS)
  const left = listIntents({ dir })
  for (const { state, pids } of left) expect([state, pids.every((pid) => killed.has(pid))]).toEqual(['dead', true])
  const last = await declareWrites({ task: 'last', writes: ['.', 'name:deploy'], dir })
  expect(listIntents({ dir }).map(({ task }) => task)).toEqual(['last'])
  expect(await last.release()).toBe(true)
  console.log(`storm: ${JSON.stringify({ ...counts, killed: killed.size, left: left.length, recovered: readEvents(dir).filter(({ type }) => type === 'recovered').length })}`)
  expect(counts.waited).toBeGreaterThan(5)
  expect(counts.ordered).toBeGreaterThan(5)
})
