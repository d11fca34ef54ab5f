/*
 * One run: four real processes on a fresh copy of the sample, one of them killed.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Order } from './job.js'
import { type Job, jobs, killAfterMs } from './schedule.js'

export const sample = join(import.meta.dirname, 'memory')

export interface Run {
  folder: string
  wallMs: number
  /** By the wall clock. */
  killedAt: number
}

interface Worker {
  job: Job
  child: ChildProcess
  ended: Promise<void>
}

/** Copies the sample to `folder/memory` and lets the jobs loose on it. Rejects when a job fails, or with the signal's reason. */
export async function runJobs(folder: string, locks: boolean, signal: AbortSignal): Promise<Run> {
  mkdirSync(join(folder, 'journals'), { recursive: true })
  cpSync(sample, join(folder, 'memory'), { recursive: true })
  const workers = jobs.map((job) => startWorker({ ...job, folder, locks }))
  try {
    return await Promise.race([conduct(folder, workers), abortOf(signal)])
  } finally {
    for (const { child } of workers) child.kill('SIGKILL')
  }
}

function startWorker(order: Order): Worker {
  const child = fork(join(import.meta.dirname, 'job.ts'), [JSON.stringify(order)])
  return { job: order, child, ended: endOf(order, child) }
}

async function endOf({ name, killedAtItem }: Job, child: ChildProcess): Promise<void> {
  const [code, signal] = await once(child, 'exit')
  const expected = killedAtItem === undefined ? code === 0 : signal === 'SIGKILL'
  if (!expected) throw new Error(`the job ${name} ended with ${signal ?? `exit code ${code}`}`)
}

async function conduct(folder: string, workers: Worker[]): Promise<Run> {
  const ended = Promise.all(workers.map((worker) => worker.ended))
  // Nobody has to wait for a job that still loads: the schedule begins when all are there.
  await Promise.race([Promise.all(workers.map(({ child }) => told(child, 'ready'))), ended])
  const killing = Promise.all(workers.filter(({ job }) => job.killedAtItem !== undefined).map(killHolding))
  const started = performance.now()
  for (const { child } of workers) child.send('go')
  await ended
  const [killedAt] = await killing
  return { folder, wallMs: performance.now() - started, killedAt: killedAt! }
}

async function killHolding({ child }: Worker): Promise<number> {
  await told(child, 'holding')
  await pause(killAfterMs)
  const killedAt = Date.now()
  child.kill('SIGKILL')
  return killedAt
}

async function told(child: ChildProcess, word: string): Promise<void> {
  const [message] = await once(child, 'message')
  if (message !== word) throw new Error(`a job said ${JSON.stringify(message)} instead of ${word}`)
}

/** Rejects with its reason, as soon as it is aborted. */
export async function abortOf(signal: AbortSignal): Promise<never> {
  if (!signal.aborted) await once(signal, 'abort')
  throw signal.reason
}
