import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { callByCall, median, ratio } from './measure.mjs'

const BARS_MS = { declare: { 1_000: 3, 10_000: 25 }, gate: 1, append: 0.5 }

/** Files and work, each beside what it cannot do without: a file read and replaced by a new one, a line appended. */
export async function measureWork(library, folder, { quick }) {
  const files = await import(new URL('files.js', library))
  const work = await import(new URL('work.js', library))
  const workspace = (name) => {
    const dir = mkdtempSync(join(folder, `${name}-`))
    work.initWorkspace(dir)
    return dir
  }
  const rows = [...(await measureFiles(files, workspace('files'), quick)), ...(await measureGate(work, workspace('gate'), quick))]
  for (const count of [1_000, 10_000]) rows.push(...(await measureDeclare(work, workspace('declare'), count, quick)))
  return rows
}

async function measureFiles({ appendLine, updateFile }, dir, quick) {
  const [log, document] = [join(dir, 'log.md'), join(dir, 'roster.md')]
  writeFileSync(document, '- [ ] an item\n'.repeat(300))
  const turned = (text) => (text.startsWith('- [ ]') ? text.replaceAll('[ ]', '[x]') : text.replaceAll('[x]', '[ ]'))
  const samples = await callByCall(
    {
      appendLine: { call: () => appendLine(log, 'hourly: shipped the reply', { owner: 'hourly' }) },
      append: { call: () => appendBare(`${log}.bare`) },
      updateFile: { call: () => updateFile(document, turned, { fsync: false, owner: 'hourly' }) },
      replace: { call: () => replaceBare(document) },
    },
    quick ? 100 : 1_000,
  )
  return [
    row('append a line: open, write, close', samples.append),
    row('appendLine', samples.appendLine, { base: samples.append, bar: BARS_MS.append }),
    row('replace a file of 4 KB: read, write, rename', samples.replace),
    row('updateFile, no fsync', samples.updateFile, { base: samples.replace }),
  ]
}

async function measureGate({ gate }, dir, quick) {
  const document = join(dir, '.lockpact/slots.json')
  const go = async (key) => {
    const answer = await gate(key, { owner: 'presence', pid: process.pid, dir })
    if (!answer.go) throw new Error(`${key}: ${answer.reason}`)
    return answer
  }
  // As many keys and outcomes as an operator has after some weeks.
  for (let key = 0; key < 10; key++) for (let run = 0; run < 20; run++) await (await go(`key-${key}`)).complete('replied to the review')
  let running
  const samples = await callByCall(
    {
      go: { call: async () => (running = await go('key-3')), after: () => running.complete('replied to the review') },
      done: { before: async () => (running = await go('key-3')), call: () => running.complete('replied to the review') },
      skip: { call: () => gate('key-5', { cooldown: '1h', owner: 'hourly', dir }) },
      replace: { call: () => replaceBare(document) },
      look: {
        call: () => {
          JSON.parse(readFileSync(document, 'utf8'))
          appendBare(join(dir, 'events'))
        },
      },
    },
    quick ? 100 : 1_000,
  )
  return [
    row('replace the slots: read, write, rename', samples.replace),
    row('gate, goes', samples.go, { base: samples.replace, bar: BARS_MS.gate }),
    row('complete', samples.done, { base: samples.replace }),
    row('read the slots, append a line', samples.look),
    row('gate, skips', samples.skip, { base: samples.look, bar: BARS_MS.gate }),
  ]
}

async function measureDeclare({ declareWrites }, dir, count, quick) {
  mkdirSync(join(dir, 'memory'))
  const document = join(dir, '.lockpact/intents.json')
  await fill(declareWrites, dir, document, count)
  let intent
  const samples = await callByCall(
    {
      declare: { call: async () => (intent = await declareWrites({ task: 'newest', writes: ['memory/newest.md'], pid: process.pid, owner: 'hourly', dir })), after: () => intent.release() },
      replace: { call: () => replaceBare(document) },
    },
    quick ? 10 : 100,
  )
  const which = `${count.toLocaleString('en')} in flight`
  return [
    row(`replace the registry, ${which}`, samples.replace),
    row(`declareWrites, ${which}`, samples.declare, { base: samples.replace, bar: BARS_MS.declare[count] }),
  ]
}

// One is declared, the others are like it: to declare them all would take minutes.
async function fill(declareWrites, dir, document, count) {
  await declareWrites({ task: 'task-0', writes: ['memory/task-0/notes.md'], pid: process.pid, owner: 'agent-0', dir })
  const registry = JSON.parse(readFileSync(document, 'utf8'))
  const [first] = registry.intents
  registry.intents = Array.from({ length: count }, (_, at) => ({
    ...first,
    id: at.toString(16).padStart(16, '0'),
    task: `task-${at}`,
    by: `agent-${at}`,
    writes: [`memory/task-${at}/notes.md`],
  }))
  writeFileSync(document, JSON.stringify(registry))
}

function replaceBare(path) {
  const text = readFileSync(path)
  const next = `${path}.next`
  const fd = openSync(next, 'wx')
  writeSync(fd, text)
  closeSync(fd)
  renameSync(next, path)
}

function appendBare(path) {
  const fd = openSync(path, 'a')
  writeSync(fd, '2026-11-20T09:00:00Z hourly: shipped the reply\n')
  closeSync(fd)
}

function row(what, times, { base, bar } = {}) {
  const ms = median(times)
  return { what, ms, least: Math.min(...times), ...(base && { ratio: ratio(times, base), to: 'bare' }), ...(bar !== undefined && { bar: `${bar} ms`, isMet: ms <= bar }) }
}
