/*
 * A storm of elections: sessions that stand for one leadership and run due jobs while they lead, killed and suspended at random. Each
 * writes what it does to a journal, with one write to an O_APPEND descriptor.
 */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { createJob, listJobs } from 'lockpact/jobs'
import { initWorkspace } from 'lockpact/work'
import { expect } from 'vitest'
import { type Child, projectFolder, sleep, startNode } from './support.js'

const SESSIONS = 6
const JOBS = 4

interface Line {
  type: 'elected' | 'leads' | 'lost' | 'fired' | 'killed' | 'failed'
  pid: number
  id: string
  /** Milliseconds of /proc/uptime, which counts hundredths; read before `held` was true. */
  at: number
  what: string
}

/** What a session does. `beginDue` and `record` are what `lockpact jobs due --run` is made of. */
const elector = (dir: string, journal: string) => `
  import { openSync, readFileSync, writeSync } from 'node:fs'
  const { beginDue, electLeader, record } = await import(${JSON.stringify(pathToFileURL(join(projectFolder, 'dist/jobs/index.js')).href)})
  const out = openSync(${JSON.stringify(journal)}, 'a')
  const uptime = () => Math.round(Number.parseFloat(readFileSync('/proc/uptime', 'latin1')) * 1000)
  const tell = (type, id, what = '', at = uptime()) => writeSync(out, JSON.stringify({ type, pid: process.pid, id, at, what }) + '\\n')
  const dir = ${JSON.stringify(dir)}
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
  async function fire(lock) {
    const begun = await beginDue({ dir, pid: process.pid, ttlMs: 60_000, owner: 'elector' })
    if (!begun) return
    const { job, token } = begun
    tell('fired', lock.id, job.id + ' ' + job.running.dueAt)
    await pause(Math.random() * 20)
    await record(job.id, { status: 'ok', startedAt: job.running.since, durationMs: 1 }, token, { dir })
  }
  const isLoss = ({ code }) => ['ELOCKED', 'ECOMPROMISED', 'ESTALE', 'ENOTACQUIRED'].includes(code)
  const election = await electLeader(dir + '/scheduler', {
    owner: 'session-' + process.pid,
    ttl: '1s',
    async onElected(lock, signal) {
      for (let is = 'elected'; !signal.aborted; is = 'leads') {
        const at = uptime()
        if (lock.held) {
          tell(is, lock.id, '', at)
          await fire(lock).catch((error) => { if (!isLoss(error)) { tell('failed', lock.id, String(error)); throw error } })
        }
        await pause(20)
      }
    },
    onLost: (reason) => tell('lost', '', reason.message),
  })
  process.stdin.on('end', () => election.resign().then(() => process.exit())).resume()`

/** Rages for so long; fails on two leaders at one time, or a due time that was given twice. Gives the figures in words. */
export async function electionStorm(dir: string, ms: number): Promise<string> {
  initWorkspace(dir)
  const journal = join(dir, 'journal')
  writeFileSync(journal, '')
  for (let n = 0; n < JOBS; n++) await createJob({ name: `job ${n}`, schedule: { kind: 'every', every: '1s' }, task: 'x' }, { dir })
  const begin = () => startNode(elector(dir, journal), { env: { LOCKPACT_SESSION: '', CLAUDE_CODE_SESSION_ID: '' } })
  const sessions = Array.from({ length: SESSIONS }, begin)
  const stopped = new Map<Child, Promise<void>>()
  let [kills, stops] = [0, 0]
  const lines = () => readFileSync(journal, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line) as Line)
  const uptime = () => Math.round(Number.parseFloat(readFileSync('/proc/uptime', 'latin1')) * 1000)
  const leader = () => sessions.find(({ pid }) => pid === lines().findLast(({ type }) => type === 'elected' || type === 'leads')?.pid)

  await sleep(1_000)
  for (const end = Date.now() + ms; Date.now() < end; ) {
    const victim = (Math.random() < 0.7 && leader()) || sessions[Math.floor(Math.random() * SESSIONS)]!
    if (stopped.has(victim)) {
      // Let it sleep.
    } else if (Math.random() < 0.7) {
      appendFileSync(journal, `${JSON.stringify({ type: 'killed', pid: victim.pid, id: '', at: uptime(), what: '' })}\n`)
      victim.process.kill('SIGKILL')
      sessions[sessions.indexOf(victim)] = begin()
      kills++
    } else if (stopped.size < 3) {
      victim.process.kill('SIGSTOP')
      stops++
      // For a moment, beyond the TTL, or beyond the TTL and the watching.
      const over = sleep([300, 1_500, 500, 7_500][stops % 4]! + Math.random() * 500).then(() => {
        victim.process.kill('SIGCONT')
        stopped.delete(victim)
      })
      stopped.set(victim, over)
    }
    await sleep(200 + Math.random() * 800)
  }
  await Promise.all(stopped.values())
  for (const session of sessions) session.process.stdin!.end()
  for (const session of sessions) expect(await session.ended, session.err()).toEqual({ code: 0, signal: null })

  const journaled = lines()
  expect(faultsIn(journaled).slice(0, 5)).toEqual([])
  for (const job of listJobs({ dir })) expect(job.runCount).toBeGreaterThan(0)
  const { elections, gaps, fired, lost } = factsOf(journaled)
  expect(gaps.length).toBeGreaterThan(0)
  const median = gaps.sort((a, b) => a - b)[gaps.length >> 1]!
  return `${SESSIONS} sessions, ${kills} killed, ${stops} suspended: ${elections} leaders, never two at once; ${gaps.length} leaders died, the next led after ${median} ms (median), ${gaps.at(-1)} ms (longest); ${lost} were told that they had lost; ${fired} due times, each once`
}

/** The clock of the journal counts hundredths. */
const GRANULARITY_MS = 20

function faultsIn(lines: Line[]): string[] {
  const faults = lines.filter(({ type }) => type === 'failed').map(({ pid, what }) => `${pid}: ${what}`)
  const terms = termsOf(lines)
  for (const [index, one] of terms.entries()) {
    for (const other of terms.slice(index + 1)) {
      if (one.from < other.to - GRANULARITY_MS && other.from < one.to - GRANULARITY_MS) faults.push(`two leaders: ${JSON.stringify(one)} and ${JSON.stringify(other)}`)
    }
  }
  const fired = lines.filter(({ type }) => type === 'fired').map(({ what }) => what)
  const twice = fired.filter((what, index) => fired.indexOf(what) !== index)
  return [...faults, ...twice.map((what) => `fired twice: ${what}`)]
}

/** From when until when each leader was sure to lead. */
function termsOf(lines: Line[]): { id: string; pid: number; from: number; to: number }[] {
  const terms = new Map<string, { id: string; pid: number; from: number; to: number }>()
  for (const { type, id, pid, at } of lines) {
    if (type !== 'elected' && type !== 'leads') continue
    const term = terms.get(id)
    if (term) term.to = Math.max(term.to, at)
    else terms.set(id, { id, pid, from: at, to: at })
  }
  return [...terms.values()]
}

function factsOf(lines: Line[]): { elections: number; gaps: number[]; fired: number; lost: number } {
  const terms = termsOf(lines).sort((a, b) => a.from - b.from)
  // Who led when it was killed: the last that is known to lead before.
  const gaps = lines
    .filter(({ type }) => type === 'killed')
    .flatMap(({ pid, at }) => {
      const led = terms.findLast(({ from }) => from <= at)
      const next = terms.find(({ from }) => from >= at - GRANULARITY_MS)
      return led?.pid === pid && next && next.pid !== pid ? [Math.max(0, next.from - at)] : []
    })
  return { elections: terms.length, gaps, fired: lines.filter(({ type }) => type === 'fired').length, lost: lines.filter(({ type }) => type === 'lost').length }
}
