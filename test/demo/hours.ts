/*
 * The first hours of the fires, with the real gate: two real processes, one for each job, over a fresh workspace, in compressed time.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { initWorkspace } from 'lockpact/work'
import type { FiredOrder } from './fired.js'
import { type Fire, type Rules, runMinutes } from './fires.js'
import { itemsIn } from './queue.js'
import { abortOf, sample } from './run.js'
import { type Answer, type Tally, tally } from './tally.js'

export interface Hours extends Tally {
  /** Ticks and log lines of what was shipped that are not in the files. */
  writesLost: number
  /** How long the gate took to say skip, each time. */
  skipMs: number[]
}

/** Rejects when a job fails, or with the signal's reason. */
export async function runHours(folder: string, fires: Fire[], rules: Rules, msPerMinute: number, signal: AbortSignal): Promise<Hours> {
  initWorkspace(folder)
  cpSync(sample, join(folder, 'memory'), { recursive: true })
  const names = [...new Set(fires.map(({ job }) => job))]
  const jobs = new Map(names.map((name) => [name, startJob({ name, folder, cooldownMs: rules[name] && rules[name] * msPerMinute, runMs: runMinutes * msPerMinute })]))
  const children = [...jobs.values()]
  try {
    const answers = await Promise.race([conduct(jobs, fires, msPerMinute), abortOf(signal), ...children.map(failureOf)])
    return { ...tally(answers), writesLost: writesLost(join(folder, 'memory'), answers), skipMs: answers.flatMap(({ skipped, askMs }) => (skipped ? askMs! : [])) }
  } finally {
    for (const child of children) child.kill('SIGKILL')
  }
}

function startJob(order: FiredOrder): ChildProcess {
  return fork(join(import.meta.dirname, 'fired.ts'), [JSON.stringify(order)], { execArgv: ['--import', 'tsx'] })
}

async function failureOf(child: ChildProcess): Promise<never> {
  const [code, signal] = await once(child, 'exit')
  throw new Error(`a job ended with ${signal ?? `exit code ${code}`}`)
}

// No two runs overlap in fires.csv; where the machine is slow, the compressed clock waits for it.
async function conduct(jobs: Map<string, ChildProcess>, fires: Fire[], msPerMinute: number): Promise<Answer[]> {
  await Promise.all([...jobs.values()].map((child) => once(child, 'message')))
  const answers: Answer[] = []
  let minute = fires[0]!.minute
  for (const fire of fires) {
    await pause((fire.minute - minute) * msPerMinute)
    const child = jobs.get(fire.job)!
    const fired = performance.now()
    child.send('fire')
    const [answer] = await once(child, 'message')
    answers.push({ fire, ...answer })
    minute = fire.minute + (performance.now() - fired) / msPerMinute
  }
  return answers
}

function writesLost(memory: string, answers: Answer[]): number {
  const added = (name: string, count: (text: string) => number) => count(readFileSync(join(memory, name), 'utf8')) - count(readFileSync(join(sample, name), 'utf8'))
  const marked = (mark: string) => (queue: string) => itemsIn(queue).filter((item) => item.mark === mark).length
  const open = marked(' ')(readFileSync(join(sample, 'contribution-queue.md'), 'utf8'))
  const runs = answers.filter(({ skipped }) => !skipped).length
  const ticks = added('contribution-queue.md', marked('x'))
  const lines = added('heartbeat-log.md', (log) => log.split('\n').length)
  return Math.min(runs, open) - ticks + runs - lines
}
