/* A Markdown list as a queue: first the pure text, in many shapes; then the file. */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { acquireLock } from 'lockpact'
import { describe, expect, test } from 'vitest'
import { finishItem, returnItem, takeItem } from '../dist/files.js'
import { release, take } from '../lib/files/queue.js'
import { besides } from './files-support.js'
import { sleep, startNode, tempFolder } from './support.js'

const NOW = Date.parse('2026-11-20T09:00:00Z')
const ID = '9f2c41d7a0b3e816'
const OTHER = '0123456789abcdef'
const BY = { id: ID, owner: 'hourly', until: '2026-11-20T10:00:00Z' }
const claim = (id = ID, until = BY.until, owner = 'hourly') => ` @${owner} until ${until} <!-- lockpact:${id} -->`
const over = claim(OTHER, '2026-11-20T08:59:59Z', 'first')
const runs = claim(OTHER, '2026-11-20T09:00:01Z', 'first')

describe('take', () => {
  test.each<[string, string, string, string, number]>([
    ['the first open item', 'Queue\n\n- [x] done\n- [ ] one\n- [ ] two\n', 'Queue\n\n- [x] done\n- [~] one#\n- [ ] two\n', 'one', 4],
    ['with \\r\\n', 'a\r\n- [ ] one\r\n- [ ] two\r\n', 'a\r\n- [~] one#\r\n- [ ] two\r\n', 'one', 2],
    ['on a last line without an end', '- [ ] one', '- [~] one#', 'one', 1],
    ['with * for a bullet', '* [ ] one\n', '* [~] one#\n', 'one', 1],
    ['with + for a bullet', '+ [ ] one\n', '+ [~] one#\n', 'one', 1],
    ['behind a byte order mark', '\uFEFF- [ ] one\n', '\uFEFF- [~] one#\n', 'one', 1],
    ['with blanks at its end', '- [ ] one  \n', '- [~] one  #\n', 'one  ', 1],
    ['with line separators in it', '- [ ] one\u2028two\rthree\n', '- [~] one\u2028two\rthree#\n', 'one\u2028two\rthree', 1],
    ['after code', '```\n- [ ] code\n```\n- [ ] one\n', '```\n- [ ] code\n```\n- [~] one#\n', 'one', 4],
    ['after code with tildes', '~~~md\n- [ ] code\n```\n- [ ] code\n~~~~\n- [ ] one\n', '~~~md\n- [ ] code\n```\n- [ ] code\n~~~~\n- [~] one#\n', 'one', 6],
    ['after longer code', '````\n```\n- [ ] code\n```\n````\n- [ ] one\n', '````\n```\n- [ ] code\n```\n````\n- [~] one#\n', 'one', 6],
    ['after code in one line', '```not a fence``` text\n- [ ] one\n', '```not a fence``` text\n- [~] one#\n', 'one', 2],
    ['after code in an item', '- [x] a\n  ```\n- [ ] one\n', '- [x] a\n  ```\n- [~] one#\n', 'one', 3],
    ['after code that begins an item', '- ```sh\n  true\n  ```\n- [ ] one\n', '- ```sh\n  true\n  ```\n- [~] one#\n', 'one', 4],
    ['after code that a numbered item has', '1. a\n   ```\n   - [ ] code\n   ```\n- [ ] one\n', '1. a\n   ```\n   - [ ] code\n   ```\n- [~] one#\n', 'one', 5],
    ['whose claim is over', `- [~] one${over}\n`, '- [~] one#\n', 'one', 1],
    ['after one whose claim runs', `- [~] one${runs}\n- [ ] two\n`, `- [~] one${runs}\n- [~] two#\n`, 'two', 2],
    ['after a person’s [~]', '- [~] by hand\n- [ ] two\n', '- [~] by hand\n- [~] two#\n', 'two', 2],
    ['that a person opened again', `- [ ] one${runs}\n`, `- [~] one${runs}#\n`, `one${runs}`, 1],
    ['not what is below an item', '- [x] a\n  - [ ] sub\n- [ ] one\n', '- [x] a\n  - [ ] sub\n- [~] one#\n', 'one', 3],
  ])('takes %s', (_, before, after, text, line) => {
    expect(take(before, BY, NOW)).toEqual([after.replace('#', claim()), { id: ID, text, line }])
  })

  test.each([
    ['nothing', ''],
    ['only done ones', '- [x] one\n- [X] two\n'],
    ['a mark that is none', '- [] one\n- [  ] two\n- [-] three\n-[ ] four\n- [ ]five\n- [ ] \n- [ ]\n[ ] six\n'],
    ['one of a person', '- [~] by hand\n'],
    ['one whose time cannot be read', `- [~] one @x until tomorrow <!-- lockpact:${OTHER} -->\n`],
    ['one with words behind its claim', `- [~] one${over} and\n`],
    ['sub-items', '- a\n  - [ ] sub\n    - [ ] sub-sub\n\t- [ ] tab\n'],
    ['code', '```\n- [ ] one\n```\n~~~\n- [ ] two\n'],
    ['code that was not closed', '   ```\n- [ ] one\n'],
    ['code that a shorter fence does not close', '````\n```\n- [ ] one\n'],
    ['code whose end has words', '```\n- [ ] one\n``` js\n- [ ] two\n'],
  ])('finds none in: %s', (_, text) => {
    expect(take(text, BY, NOW)).toBeUndefined()
  })

  test('gives an item with what is indented below it', () => {
    const text = '- [ ] one\r\n  more  \r\n\r\n\tand more\r\n  - [ ] sub\r\n\r\n\r\n- [ ] two\r\n'
    expect(take(text, BY, NOW)![1]).toEqual({ id: ID, text: 'one\n  more\n\n\tand more\n  - [ ] sub', line: 1 })
    expect(take('- [ ] one\n\ntext\n', BY, NOW)![1].text).toBe('one')
    expect(take('- [ ] one\n  more', BY, NOW)![1].text).toBe('one\n  more')
  })

  test.each([
    ['the night shift', 'the-night-shift'],
    ['  a \t b  ', 'a-b'],
    ['', 'somebody'],
    [' ', 'somebody'],
    [undefined, 'somebody'],
    ['a --> b', 'a--->-b'],
    ['@x until <!--', '@x-until-<!--'],
  ])('has room for an owner called %j, and its item is found again', (owner, word) => {
    const [taken] = take('- [ ] one\n', { ...BY, owner }, NOW)!
    expect(taken).toBe(`- [~] one${claim(ID, BY.until, word)}\n`)
    expect(release(taken, ID, ' ', '')![0]).toBe('- [ ] one\n')
    expect(take(taken, { ...BY, id: OTHER }, Date.parse(BY.until) - 1)).toBeUndefined()
    expect(take(taken, { ...BY, id: OTHER }, Date.parse(BY.until))![0]).toBe(`- [~] one${claim(OTHER)}\n`)
  })
})

describe('release', () => {
  test('finishes the item of its id, and no other', () => {
    const text = `- [~] one${claim(OTHER)}\r\n- [~] two${claim()}\r\n  more\r\n- [ ] three\r\n`
    expect(release(text, ID, 'x', ' (shipped)')).toEqual([`- [~] one${claim(OTHER)}\r\n- [x] two (shipped)\r\n  more\r\n- [ ] three\r\n`, { id: ID, text: 'two\n  more', line: 2 }])
    expect(release(text, 'ffffffffffffffff', 'x', '')).toBeUndefined()
  })

  test('leaves alone what is open, done, or code', () => {
    for (const text of [`- [ ] one${claim()}\n`, `- [x] one${claim()}\n`, `\`\`\`\n- [~] one${claim()}\n\`\`\`\n`]) expect(release(text, ID, 'x', '')).toBeUndefined()
  })

  test('strips one claim, not what looks like another', () => {
    const text = `- [~] one${over}${claim()}\n`
    expect(release(text, ID, ' ', '')![0]).toBe(`- [ ] one${over}\n`)
  })
})

test('what is taken and returned is byte for byte as before, whatever else is there', () => {
  const pieces = ['- [ ] an item', '* [ ] größe 🙂', '+ [ ] x  ', '- [x] done', '- [~] by hand', `- [~] was${over}`, `- [~] is${runs}`, '  - [ ] sub', '  more', '\tmore', '', '   ', '# Head', '```', '````sh', '~~~', '  ```', 'text', '- text', '1. [ ] one', '- [ ] a @b until c', '\uFEFF- [ ] bom', '> - [ ] quoted', `- [ ] open${runs}`, '- [ ] \u2028', '<!-- - [ ] -->']
  // A generator with a seed: a failure can be repeated.
  let seed = 20261120
  const random = (below: number) => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) % below
  let taken = 0
  for (let run = 0; run < 6_000; run++) {
    const ends = ['\n', '\r\n', '\n'][random(3)]!
    const text = Array.from({ length: random(12) }, () => pieces[random(pieces.length)]! + (random(20) === 0 ? '\r\n' : ends)).join('') + (random(3) === 0 ? pieces[random(pieces.length)]! : '')
    const [after, item] = take(text, BY, NOW) ?? []
    if (after === undefined) continue
    taken++
    const lines = text.split('\n')
    const changed = after.split('\n').flatMap((line, at) => (line === lines[at] ? [] : [at + 1]))
    const [back, same] = release(after, ID, ' ', '')!
    const [done] = release(after, ID, 'x', ' (ok)')!
    const wasExpired = lines[item!.line - 1]!.includes(over)
    expect({ changed, same, back, done: done.split('\n')[item!.line - 1]!.includes('[x] ') }, JSON.stringify(text)).toEqual({
      changed: [item!.line],
      same: item,
      back: wasExpired ? text.replace(text, () => [...lines.slice(0, item!.line - 1), lines[item!.line - 1]!.replace(over, () => '').replace('[~]', '[ ]'), ...lines.slice(item!.line)].join('\n')) : text,
      done: true,
    })
  }
  expect(taken).toBeGreaterThan(2_000)
  console.log(`queue: ${taken} random queues, taken and returned`)
})

// ---- the file ----

function queueWith(text: string): { folder: string; queue: string; read(): string } {
  const folder = tempFolder()
  const queue = join(folder, 'queue.md')
  fs.writeFileSync(queue, text)
  return { folder, queue, read: () => fs.readFileSync(queue, 'utf8') }
}

test('an item is taken, by one only, and finished with its result', async () => {
  const { folder, queue, read } = queueWith('# Queue\r\n- [ ] one\r\n  more\r\n- [ ] two\r\n')
  const before = Date.now()
  const taken = (await takeItem(queue, { owner: 'hourly', ttl: '10m' }))!
  expect(taken.item).toEqual({ id: expect.stringMatching(/^[0-9a-f]{16}$/), text: 'one\n  more', line: 2 })
  expect(read()).toBe(`# Queue\r\n- [~] one @hourly until ${taken.until} <!-- lockpact:${taken.item.id} -->\r\n  more\r\n- [ ] two\r\n`)
  expect(read()).not.toContain(taken.token)
  expect(taken.until).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  expect(Date.parse(taken.until)).toBeGreaterThanOrEqual(before + 600_000)
  expect((await takeItem(queue))!.item.text).toBe('two')
  expect(await takeItem(queue)).toBeUndefined()
  expect(await finishItem(queue, taken.token, { result: 'shipped' })).toEqual(taken.item)
  expect(read()).toContain('# Queue\r\n- [x] one (shipped)\r\n  more\r\n- [~] two @somebody')
  await expect(finishItem(queue, taken.token)).rejects.toMatchObject({ name: 'LockError', code: 'ENOTACQUIRED' })
  await expect(returnItem(queue, taken.token)).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
  expect(besides(folder)).toEqual(['queue.md'])
})

test('an item that is returned can be taken again, with another token; the bytes are as before', async () => {
  const text = '\uFEFF- [ ] one\r\n- [ ] two'
  const { queue, read } = queueWith(text)
  const taken = (await takeItem(queue))!
  expect(await returnItem(queue, taken.token)).toEqual(taken.item)
  expect(read()).toBe(text)
  const again = (await takeItem(queue))!
  expect(again.item.text).toBe('one')
  expect(again.token).not.toBe(taken.token)
  await expect(finishItem(queue, taken.token)).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
  await finishItem(queue, again.token)
  expect(read()).toBe('\uFEFF- [x] one\r\n- [ ] two')
})

test('an expired item is taken by the next; then the first taker’s ending is refused', async () => {
  const { queue, read } = queueWith('- [ ] one\n')
  const first = (await takeItem(queue, { owner: 'first', ttl: 1 }))!
  await sleep(Date.parse(first.until) - Date.now() + 5)
  const second = (await takeItem(queue, { owner: 'second' }))!
  expect(second.item.text).toBe('one')
  const held = read()
  for (const end of [finishItem, returnItem]) await expect(end(queue, first.token)).rejects.toMatchObject({ name: 'LockError', code: 'ENOTACQUIRED', message: expect.stringContaining('somebody else took it') })
  expect(read()).toBe(held)
  await finishItem(queue, second.token)
  expect(read()).toBe('- [x] one\n')
})

test('an expired item that nobody took can still be finished, from another process', async () => {
  const { folder, queue, read } = queueWith('- [ ] one\n')
  const { token, until } = (await takeItem(queue, { ttl: 1 }))!
  await sleep(Date.parse(until) - Date.now() + 5)
  const filesUrl = new URL('../dist/files.js', import.meta.url).href
  const child = startNode(`const { finishItem } = await import(${JSON.stringify(filesUrl)}); say((await finishItem('queue.md', ${JSON.stringify(token)}, { result: 'late' })).text)`, { cwd: folder })
  expect(await child.line()).toBe('one')
  expect(read()).toBe('- [x] one (late)\n')
})

test('a queue that is missing is told, and not created', async () => {
  const folder = tempFolder()
  const missing = { name: 'LockError', code: 'ENOENT', message: expect.stringContaining('no queue') }
  for (const path of [join(folder, 'queue.md'), join(folder, 'a', 'queue.md')]) {
    await expect(takeItem(path)).rejects.toMatchObject(missing)
    await expect(finishItem(path, 'token')).rejects.toMatchObject(missing)
    await expect(returnItem(path, 'token')).rejects.toMatchObject(missing)
  }
  expect(besides(folder)).toEqual([])
})

test('a queue that is not UTF-8 is refused, and stays', async () => {
  const { queue } = queueWith('')
  const bytes = Buffer.concat([Buffer.from('- [ ] one\n'), Buffer.from([0xff])])
  fs.writeFileSync(queue, bytes)
  await expect(takeItem(queue)).rejects.toMatchObject({ code: 'EINVAL' })
  expect(fs.readFileSync(queue)).toEqual(bytes)
})

test('items are taken under a lock that is held already, and not from outside', async () => {
  const { queue } = queueWith('- [ ] one\n- [ ] two\n')
  const lock = await acquireLock(queue)
  await expect(takeItem(queue, { wait: 0 })).rejects.toMatchObject({ code: 'ELOCKED' })
  const taken = (await takeItem(queue, { lock }))!
  await finishItem(queue, taken.token, { lock })
  await lock.release()
  expect((await takeItem(queue))!.item.text).toBe('two')
})

test('ten thousand items are no matter', async () => {
  const { queue, read } = queueWith(Array.from({ length: 10_000 }, (_, n) => `- [${n < 9_999 ? 'x' : ' '}] item ${n}\n`).join(''))
  const taken = (await takeItem(queue))!
  expect(taken.item).toMatchObject({ text: 'item 9999', line: 10_000 })
  await finishItem(queue, taken.token)
  expect(read().split('\n').filter((line) => line.startsWith('- [x]'))).toHaveLength(10_000)
})
