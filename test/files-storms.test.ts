/*
 * Storms: eight processes at one file, and every 50 ms one of them is killed and started again, until all have done their work (on a
 * machine that is busy with starting them, less often: some work has to be done between two kills). A process journals what it was
 * told is done; a kill may come between the deed and the journal.
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { appendLine, takeItem, updateFile } from '../dist/files.js'
import { besides, startFiles } from './files-support.js'
import { type Child, sleep, tempFolder } from './support.js'

const PROCESSES = 8
const UPDATES = 500
const EVERY_MS = 50
/** For machines that are slow: this is no measurement. */
const timeout = 180_000

/**
 * Runs `work` in all of them to its end; `watch` is called all the time. Between two kills, so many `bytes` are journalled. Gives the number of
 * kills, and the journal.
 */
async function rage(folder: string, bytes: number, work: string, watch = () => {}): Promise<{ kills: number; journal: string[] }> {
  const journal = join(folder, 'journal')
  const body = `
const journal = fs.openSync('journal', 'a')
// Without it, seven wait and wake at every change, and most of the time is spent on that.
const pause = () => new Promise((resolve) => setTimeout(resolve, Math.random() * 16))
const note = (line) => fs.writeSync(journal, line + '\\n')
const id = process.pid + '-' + process.hrtime.bigint()
say('ready')
const before = (slot) => fs.readFileSync('journal', 'utf8').split('\\n').filter((line) => line.startsWith(slot + ' ')).length
${work}`
  fs.writeFileSync(journal, '')
  const running = new Map<number, Child>()
  const begin = (slot: number) => {
    const child = startFiles(body.replaceAll('SLOT', String(slot)), { cwd: folder })
    running.set(slot, child)
    void child.ended.then(({ code, signal }) => {
      if (signal === 'SIGKILL') return begin(slot)
      running.delete(slot)
      if (code !== 0) failed.push(child.err().slice(-500))
    })
  }
  const failed: string[] = []
  for (let slot = 0; slot < PROCESSES; slot++) begin(slot)
  let kills = 0
  let size = 0
  for (let next = Date.now() + EVERY_MS; running.size > 0; await sleep(2)) {
    watch()
    const victims = [...running.values()].filter((child) => child.out() !== '' && child.process.exitCode === null && child.process.signalCode === null)
    if (Date.now() < next || victims.length === 0) continue
    const grown = fs.statSync(journal).size
    if (grown < size + bytes) continue
    next = Date.now() + EVERY_MS
    size = grown
    if (victims[Math.floor(Math.random() * victims.length)]!.process.kill('SIGKILL')) kills++
  }
  expect(failed).toEqual([])
  // The last line of somebody who was killed may be cut off; none is, since it is one write.
  return { kills, journal: fs.readFileSync(journal, 'utf8').split('\n').slice(0, -1) }
}

test('8 processes, 500 updates each of one counter: none is lost, and it is never seen half', { timeout }, async () => {
  const folder = tempFolder()
  const file = join(folder, 'counter.json')
  fs.writeFileSync(file, '{"count":0}\n')
  let reads = 0
  let last = 0
  const { kills, journal } = await rage(
    folder,
    500,
    `const count = (text) => { const counter = JSON.parse(text); counter.count++; return JSON.stringify(counter) + '\\n' }
for (let done = before('SLOT'); done < ${UPDATES}; done++) {
  await updateFile('counter.json', count, { wait: '3m', fsync: false })
  note('SLOT done')
  await pause()
}`,
    () => {
      const { count } = JSON.parse(fs.readFileSync(file, 'utf8'))
      expect(count).toBeGreaterThanOrEqual(last)
      last = count
      reads++
    },
  )
  await updateFile(file, () => undefined)
  const { count } = JSON.parse(fs.readFileSync(file, 'utf8'))
  console.log(`storm of updates: ${journal.length} acknowledged, ${count} counted, ${kills} kills, ${reads} reads that parsed`)
  expect(journal.length).toBeGreaterThanOrEqual(PROCESSES * UPDATES)
  expect(count).toBeGreaterThanOrEqual(journal.length)
  expect(count).toBeLessThanOrEqual(journal.length + kills)
  expect(kills).toBeGreaterThan(10)
  expect(besides(folder)).toEqual(['counter.json', 'journal'])
})

test('8 processes, 500 appended lines each, with rotation: none torn, none lost, none twice', { timeout }, async () => {
  const folder = tempFolder()
  const file = join(folder, 'log.md')
  const { kills, journal } = await rage(
    folder,
    9_000,
    `for (let done = before('SLOT'); done < ${UPDATES}; done++) {
  // Never the same twice: the line of somebody who was killed may be there.
  const line = 'SLOT ' + id + '-' + done + ' ' + 'x'.repeat(done % 200)
  await appendLine('log.md', line, { wait: '3m', rotate: { bytes: 100_000 } })
  note(line)
  await pause()
}`,
  )
  await appendLine(file, '0 last ')
  const names = besides(folder, 'journal')
  expect(names.filter((name) => !/^log(\.\d+)?\.md$/.test(name))).toEqual([])
  const lines = names.flatMap((name) => fs.readFileSync(join(folder, name), 'utf8').split('\n').slice(0, -1))
  const torn = lines.filter((line) => !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \d \S+ x*$/.test(line))
  const texts = new Set(lines.map((line) => line.slice(21)))
  const lost = journal.filter((line) => !texts.has(line))
  console.log(`storm of lines: ${journal.length} acknowledged, ${lines.length - 1} there, in ${names.length} files, ${kills} kills; ${torn.length} torn, ${lost.length} lost, ${lines.length - texts.size} twice`)
  expect(journal.length).toBeGreaterThanOrEqual(PROCESSES * UPDATES)
  expect({ torn: torn.slice(0, 3), lost: lost.slice(0, 3), twice: lines.length - texts.size }).toEqual({ torn: [], lost: [], twice: 0 })
  expect(lines.length - 1).toBeLessThanOrEqual(journal.length + kills)
  expect(names.length).toBeGreaterThan(3)
  expect(kills).toBeGreaterThan(10)
})

test('8 processes at a queue of 200 items that expire soon: none finished twice, none lost', { timeout }, async () => {
  const folder = tempFolder()
  const file = join(folder, 'queue.md')
  const items = Array.from({ length: 200 }, (_, n) => `item ${n}`)
  fs.writeFileSync(file, `# Queue\r\n\r\n${items.map((item) => `- [ ] ${item}\r\n  of \`${item}\`\r\n`).join('')}`)
  const { kills, journal } = await rage(
    folder,
    150,
    `for (;;) {
  const taken = await takeItem('queue.md', { owner: 'worker SLOT', ttl: '1s', wait: '3m', fsync: false })
  if (taken) {
    const text = taken.item.text.split('\\n')[0]
    note('SLOT took ' + text)
    // Some are slow, and too late.
    await new Promise((resolve) => setTimeout(resolve, Math.random() < 0.03 ? Date.parse(taken.until) - Date.now() + 50 : 5))
    await finishItem('queue.md', taken.token, { result: 'by ' + id, wait: '3m', fsync: false }).then(
      () => note('SLOT finished ' + text),
      (error) => { if (error.code !== 'ENOTACQUIRED') throw error; note('SLOT late ' + text) },
    )
  } else if (fs.readFileSync('queue.md', 'utf8').includes('- [~]')) await new Promise((resolve) => setTimeout(resolve, 30))
  else break
}`,
  )
  const count = (what: string) => journal.filter((line) => line.slice(2).startsWith(`${what} `)).map((line) => line.slice(3 + what.length))
  const finished = count('finished')
  const lines = fs.readFileSync(file, 'utf8').split('\r\n')
  console.log(`storm at a queue: ${count('took').length} takes, ${finished.length} endings acknowledged, ${count('late').length} refused as late, ${kills} kills`)
  expect(finished.length - new Set(finished).size, 'finished twice').toBe(0)
  expect(lines.filter((_, at) => at % 2 === 0 && at > 1 && at < 402).map((line) => line.replace(/ \(by [\w-]+\)$/, ''))).toEqual(items.map((item) => `- [x] ${item}`))
  expect(lines.filter((_, at) => at % 2 === 1 && at > 1)).toEqual(items.map((item) => `  of \`${item}\``))
  expect(finished.length).toBeGreaterThanOrEqual(items.length - kills)
  expect(await takeItem(file)).toBeUndefined()
  expect(kills).toBeGreaterThan(10)
  expect(besides(folder)).toEqual(['journal', 'queue.md'])
})
