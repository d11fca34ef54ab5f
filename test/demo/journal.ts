/*
 * What a job really did, in a file of its own that nobody else writes: the measure for what the shared files say.
 */
import { appendFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export type Entry =
  | { what: 'claimed' | 'done' | 'ticked'; item: string }
  | { what: 'logged'; line: string }
  | { what: 'locked'; file: string; waitedMs: number }
  | { what: 'recovered'; from: string }

export type Dated = Entry & { job: string; at: number }

export function note(folder: string, job: string, entry: Entry): void {
  appendFileSync(pathOf(folder, job), `${JSON.stringify({ at: Date.now(), job, ...entry })}\n`)
}

export function readJournals(folder: string, jobs: string[]): Dated[] {
  const lines = jobs.flatMap((job) => readFileSync(pathOf(folder, job), 'utf8').trimEnd().split('\n'))
  return lines.map((line) => JSON.parse(line) as Dated).sort((a, b) => a.at - b.at)
}

function pathOf(folder: string, job: string): string {
  return join(folder, 'journals', `${job}.jsonl`)
}
