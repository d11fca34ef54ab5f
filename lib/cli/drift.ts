import type { Dirent } from 'node:fs'
import { basename, fs, join, LockError, machineError, relative, sep } from '../core/index.js'
import type { Job } from '../jobs/index.js'

/** A job, and a file with which its text should be the same. */
export interface Drift {
  job: string
  id: string
  /** Relative to the workspace. */
  file: string
  /** `missing`: the job reads its prompt from there. */
  state: 'same' | 'differs' | 'missing'
  /** The first line that differs. */
  line: number | null
}

const LEFT_OUT = new Set(['node_modules', '.git', '.lockpact'])
const MAX_FILES = 5_000
const MAX_BYTES = 1024 * 1024

/**
 * Where the text of a job is a copy of a file: of one of `files`, or else of a Markdown or text file of the workspace that is called as
 * the job is (`heartbeat.md`, `heartbeat-prompt.md`) or begins with the same line.
 */
export function driftIn(root: string, jobs: Job[], files: string[]): Drift[] {
  const copies = jobs.filter(({ task }) => task !== undefined)
  const texts = copies.length === 0 ? [] : (files.length > 0 ? files : textFiles(root)).flatMap((path) => readable(path, files.length > 0))
  const drift: Drift[] = []
  for (const { name, id, task, taskSource } of jobs) {
    if (taskSource !== undefined && !fs.existsSync(join(root, taskSource)) && !fs.existsSync(taskSource)) drift.push({ job: name, id, file: taskSource, state: 'missing', line: null })
    for (const { path, text } of task === undefined ? [] : texts) {
      if (!isCalled(path, name) && firstLine(text) !== firstLine(task!)) continue
      const line = firstDifference(task!, text)
      drift.push({ job: name, id, file: relative(root, path).replaceAll(sep, '/'), state: line === null ? 'same' : 'differs', line })
    }
  }
  return drift
}

function textFiles(folder: string): string[] {
  const found: string[] = []
  const visit = (here: string) => {
    for (const entry of entriesOf(here)) {
      if (found.length >= MAX_FILES) return
      if (entry.isDirectory() && !LEFT_OUT.has(entry.name)) visit(join(here, entry.name))
      else if (entry.isFile() && /\.(md|txt|prompt)$/.test(entry.name)) found.push(join(here, entry.name))
    }
  }
  visit(folder)
  return found.sort()
}

// What may not be read has no copies for us.
function entriesOf(folder: string): Dirent[] {
  try {
    return fs.readdirSync(folder, { withFileTypes: true })
  } catch {
    return []
  }
}

function readable(path: string, isNamed: boolean): { path: string; text: string }[] {
  try {
    const stats = fs.statSync(path)
    if (isNamed && !stats.isFile()) throw new LockError('EINVAL', `${path} is not a regular file`, { file: path })
    return !stats.isFile() || stats.size > MAX_BYTES ? [] : [{ path, text: fs.readFileSync(path, 'utf8') }]
  } catch (error) {
    if (isNamed) throw machineError('read', { file: path }, error)
    return []
  }
}

const isCalled = (path: string, name: string) => slug(basename(path).replace(/\.\w+$/, '').replace(/[-_.]?(prompt|task)$/i, '')) === slug(name)
const slug = (name: string) => name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '')
const firstLine = (text: string) => text.trimStart().split('\n')[0]!.trim()

// A line break at the end of the file is no difference.
function firstDifference(one: string, other: string): number | null {
  const [a, b] = [one, other].map((text) => text.replace(/\s+$/, '').split('\n')) as [string[], string[]]
  const index = Array.from({ length: Math.max(a.length, b.length) }).findIndex((_, line) => a[line] !== b[line])
  return index < 0 ? null : index + 1
}
