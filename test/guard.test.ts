/*
 * The write guard: what a shell line certainly writes (pure), and `lockpact guard` with the JSON that coding agents send.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock } from 'lockpact'
import { declareWrites, initWorkspace, readEvents } from 'lockpact/work'
import { describe, expect, test } from 'vitest'
import { writesOf } from '../lib/cli/shell.js'
import { payloads } from './payloads.js'
import { commandPath, tempFolder } from './support.js'

describe('what a shell line certainly writes', () => {
  const isFolder = (path: string) => path === '/w/dir'
  const writes = (line: string) => writesOf(line, '/w', '/home/me', isFolder)

  test.each([
    // Redirections.
    ['echo x > a', ['/w/a']],
    ['echo x >> "b c"', ['/w/b c']],
    ["echo x >| 'it is'", ['/w/it is']],
    ['make &> all.log', ['/w/all.log']],
    ['make >out 2>err', ['/w/out', '/w/err']],
    ['echo x >&2', []],
    ['sort < in', []],
    ['cat <<< word', []],
    ['>a\\ b', ['/w/a b']],
    ['echo x > ../q', ['/q']],
    ['echo x > /etc/../tmp/q', ['/tmp/q']],
    // Commands.
    ['tee -a q.md', ['/w/q.md']],
    ['cat in | tee a b >/dev/null', ['/w/a', '/w/b', '/dev/null']],
    ['rm -rf memory', ['/w/memory']],
    ['rm -- -f', ['/w/-f']],
    ['touch a b', ['/w/a', '/w/b']],
    ['mv a b', ['/w/a', '/w/b']],
    ['mv sub/a b dir', ['/w/sub/a', '/w/b', '/w/dir/a', '/w/dir/b']],
    ['cp a b', ['/w/b']],
    ['cp a dir', ['/w/dir/a']],
    ['cp -t dir a', []],
    ["sed -i 's/a/b/' f g", ['/w/f', '/w/g']],
    ["sed -i.bak -e 's/a/b/' f", ['/w/f']],
    ["sed -n 's/a/b/' f", []],
    ["sed -Ei 's/a/b/' f", ['/w/f']],
    ['sudo rm x', ['/w/x']],
    ['A=b C=d touch x', ['/w/x']],
    ['env A=b touch x', ['/w/x']],
    ['sudo -u me rm x', []],
    ['grep rm x', []],
    ['/bin/rm x', []],
    // Lists, subshells, folders.
    ['cd sub && echo x >> q', ['/w/sub/q']],
    ['cd sub; cd ..; touch q', ['/w/q']],
    ['cd /tmp && rm q', ['/tmp/q']],
    ['(cd sub && rm a); rm b', ['/w/sub/a', '/w/b']],
    ['cd "$HOME"; rm a; rm /b', ['/b']],
    ['cd a || cd b; rm c', []],
    ['cd - && rm c', []],
    ['pushd sub; rm c', []],
    ['true || rm a', ['/w/a']],
    ['rm a &\nrm b', ['/w/a', '/w/b']],
    // Unclear words.
    ['echo x > $FILE', []],
    ['echo x > "$FILE"', []],
    ['rm *.md', []],
    ['rm {a,b}', []],
    ['rm $(ls)', []],
    ['rm ~/a', ['/home/me/a']],
    ['rm ~you/a', []],
    ['echo "$(date -u)" >> log', ['/w/log']],
    ['echo "$(printf "%s)" x)" `date` >> log', ['/w/log']],
    ["echo $'a\\n' > log", ['/w/log']],
    // What is not a command.
    ['echo "a > b"', []],
    ["echo 'rm x'", []],
    ['# rm x', []],
    ['echo a#b > c', ['/w/c']],
    ['cat <<EOF > out\nrm x\nEOF\ntouch z', ['/w/out', '/w/z']],
    ["cat <<-'END' > out\n\trm x\n\tEND\nrm y", ['/w/out', '/w/y']],
    ['cat <<A <<B\nrm x\nA\nrm y\nB\nrm z', ['/w/z']],
    // What may not happen, or elsewhere.
    ['touch -r q other', []],
    ['touch dir', []],
    ['rm --help q', []],
    ['cp -n a q', []],
    ['mv -u a q', []],
    ['cd sub & touch q', ['/w/q']],
    ['cd sub | cat; touch q', ['/w/q']],
    ['true | cd sub; touch q', ['/w/q']],
    ['exit 0; rm q', []],
    ['echo ${x:-a > q b}', []],
    ['echo x >& q', ['/w/q']],
    ["x=$(cat <<'EOF'\na)\nrm q\nEOF\n)", []],
    ['git commit -m "$(cat <<\'EOF\'\nFixes:\n1) say "x > q " less\nEOF\n)"', []],
    // Where it stops.
    ['if true; then rm x; fi', []],
    ['rm a; for f in *; do rm b; done', ['/w/a']],
    ['f() { rm x; }', []],
    ['{ rm x; }', []],
    ["sh -c 'rm x'", []],
    ['ls | xargs rm', []],
    ["echo 'open", []],
    ['echo "open > x', []],
    ['echo $(open > x', []],
    ['x=$(case a in a) echo;; esac); rm b', []],
    ['rm a) ; rm b', ['/w/a']],
    ['', []],
  ])('%s', (line, expected) => {
    expect(writes(line).sort()).toEqual([...expected].sort())
  })

  test('garbage of any kind gives a list, soon', () => {
    let seed = 1
    const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below
    const pieces = ['"', "'", '`', '$(', ')', '(', '>', '<<', 'EOF', '\n', '\\', 'rm ', 'cd ', 'a', '#', '|', '&', ';', '{', '}', '~', '$', ' ']
    for (let round = 0; round < 20_000; round++) {
      const line = Array.from({ length: 1 + random(25) }, () => pieces[random(pieces.length)]).join('')
      for (const path of writes(line)) expect(path.startsWith('/'), line).toBe(true)
    }
    expect(writes(`${'('.repeat(50_000)}rm x`)).toEqual([])
    expect(writes(`${'(cd a;'.repeat(5_000)}rm x`)).toHaveLength(1)
  })
})

// ---- the hook ----

function scene() {
  const dir = tempFolder()
  initWorkspace(dir)
  mkdirSync(join(dir, 'memory'))
  writeFileSync(join(dir, 'memory/queue.md'), '# Queue\n')
  const guard = (payload: unknown, env: Record<string, string> = {}, cwd = '/', ...options: string[]) =>
    spawnSync(process.execPath, [commandPath, 'guard', ...options], { cwd, input: typeof payload === 'string' ? payload : JSON.stringify(payload), encoding: 'utf8', env: { PATH: process.env['PATH'], HOME: '/root', ...env } })
  return { dir, queue: join(dir, 'memory/queue.md'), guard }
}

describe.each(Object.entries(payloads))('%s', (_, payload) => {
  test('free: silent; held by somebody else: stopped, with one sentence; own: silent; bypassed: silent, and logged', async () => {
    const { dir, queue, guard } = scene()
    const free = guard(payload(dir, 'memory/queue.md'))
    expect([free.status, free.stdout, free.stderr]).toEqual([0, '', ''])

    const lock = await acquireLock(queue, { owner: 'hourly', reason: 'take the top item', detached: true })
    for (const path of ['memory/queue.md', queue, './memory/../memory/queue.md']) {
      const held = guard(payload(dir, path))
      expect([held.status, held.stdout], path).toEqual([2, ''])
      expect(held.stderr).toMatch(/^lockpact: \S+queue\.md is locked by "hourly" \(detached on .*\), since .*Z.*, until .*Z, to "take the top item": do not write to it now; wait for it \(lockpact acquire \S+queue\.md --wait 30s\), or do something else\n$/)
    }
    const bypassed = guard(payload(dir, 'memory/queue.md'), { LOCKPACT_BYPASS: '1' })
    expect([bypassed.status, bypassed.stdout, bypassed.stderr]).toEqual([0, '', ''])
    expect(readEvents(dir).map(({ type, what, by, against }) => ({ type, what, by, against }))).toEqual([
      ...Array.from({ length: 3 }, () => ({ type: 'refused', what: 'memory/queue.md', by: 's1', against: 'hourly' })),
      { type: 'bypassed', what: 'memory/queue.md', by: 's1', against: 'hourly' },
    ])
    await lock.release()

    const own = spawnSync(process.execPath, [commandPath, 'acquire', queue, '-q'], { cwd: dir, env: { PATH: process.env['PATH'], CLAUDE_CODE_SESSION_ID: 's1' }, encoding: 'utf8' })
    expect(own.status).toBe(0)
    expect(guard(payload(dir, 'memory/queue.md')).status).toBe(0)
    expect(guard({ ...payload(dir, 'memory/queue.md'), session_id: 's2' }).status).toBe(2)
  })
})

describe('what is in the way', () => {
  const write = (cwd: string, path: string) => payloads['Claude Code, Write'](cwd, path)
  const shell = (cwd: string, command: string) => ({ session_id: 's1', cwd, tool_name: 'Bash', tool_input: { command } })

  test('what a task has declared: the file, and what is below a folder', async () => {
    const { dir, guard } = scene()
    await declareWrites({ task: 'weekly', owner: 'hourly', writes: ['docs', 'memory/queue.md'], dir })
    for (const path of ['docs/a/b.md', 'memory/queue.md']) {
      const { status, stderr } = guard(write(dir, path))
      expect(status).toBe(2)
      expect(stderr).toMatch(/ is being written by task "weekly" \("hourly"\) since .*Z, until .*Z: do not write to it now; see lockpact intents, and come back later, or do something else\n$/)
    }
    expect(guard(write(dir, 'memory/other.md')).status).toBe(0)
  })

  test('a task that was declared in the own session is not in the way, and one that only waits neither', async () => {
    const { dir, guard } = scene()
    const other = await declareWrites({ task: 'other', writes: ['src'], dir })
    const aborter = new AbortController()
    const queued = declareWrites({ task: 'queued', writes: ['src', 'docs'], policy: 'queue', signal: aborter.signal, dir }).catch(() => {})
    expect(guard(write(dir, 'docs/a')).status).toBe(0)
    aborter.abort()
    await queued
    await other.release()
    const { status } = spawnSync(process.execPath, [commandPath, 'declare', '--task', 'mine', '--writes', 'src', '-q'], { cwd: dir, env: { PATH: process.env['PATH'], CLAUDE_CODE_SESSION_ID: 's1' } })
    expect(status).toBe(0)
    expect(guard(write(dir, 'src/a.ts')).status).toBe(0)
    expect(guard({ ...write(dir, 'src/a.ts'), session_id: 's2' }).status).toBe(2)
  })

  test('through a link, and a link that dangles', async () => {
    const { dir, queue, guard } = scene()
    symlinkSync('memory/queue.md', join(dir, 'link'))
    symlinkSync('memory/new.md', join(dir, 'dangling'))
    await acquireLock(queue, { detached: true })
    await acquireLock(join(dir, 'memory/new.md'), { detached: true })
    expect(guard(write(dir, 'link')).status).toBe(2)
    expect(guard(write(dir, 'dangling')).status).toBe(2)
  })

  test('removing a folder with a held lock below it, or somebody’s lock file', async () => {
    const { dir, queue, guard } = scene()
    await acquireLock(queue, { owner: 'hourly', detached: true })
    expect(guard(shell(dir, 'rm -rf memory')).status).toBe(2)
    const { status, stderr } = guard(shell(dir, 'rm -f memory/queue.md.lock'))
    expect(status).toBe(2)
    expect(stderr).toContain('is the lock of "hourly"')
    expect(stderr).toContain('lockpact break')
  })

  test('a part is about the part, a stale lock is nobody’s, and foreign locks are not ours to defend', async () => {
    const { dir, queue, guard } = scene()
    await acquireLock(`${queue}::head`, { detached: true })
    writeFileSync(join(dir, 'yarn.lock'), '# yarn lockfile v1\n')
    writeFileSync(join(dir, 'stale.md.lock'), '{"v":1,"ttlMs":1,"bootMs":1,"boot":"another"}\n')
    for (const path of ['memory/queue.md', 'yarn.lock', 'yarn', 'stale.md']) expect([path, guard(write(dir, path)).status]).toEqual([path, path === 'stale.md' ? 2 : 0])
  })

  test('a lock on a folder above', async () => {
    const { dir, guard } = scene()
    const lock = await acquireLock(join(dir, 'memory'), { owner: 'hourly', detached: true })
    for (const path of ['memory/x', 'memory/deep/er/x']) {
      const { status, stderr } = guard(write(dir, path))
      expect(status).toBe(2)
      expect(stderr).toMatch(/^lockpact: \S+\/memory is locked by "hourly"/)
    }
    expect(guard(write(dir, 'memory-old/x')).status).toBe(0)
    await lock.release()
    expect(guard(write(dir, 'memory/x')).status).toBe(0)
  })

  test.each(['workdir', 'directory', 'dir_path'])('a line is read from where it will run: %s', async (name) => {
    const { dir, queue, guard } = scene()
    await acquireLock(queue, { detached: true })
    const run = (line: string, folder?: string) => guard({ cwd: dir, tool_name: 'shell', tool_input: { command: line, [name]: folder } }).status
    expect([run('rm queue.md', 'memory'), run('rm queue.md', join(dir, 'memory')), run('rm memory/queue.md', 'memory'), run('rm queue.md')]).toEqual([2, 2, 0, 0])
  })

  test('-q: why is still said, the agent has to know', async () => {
    const { dir, queue, guard } = scene()
    await acquireLock(queue, { owner: 'hourly', detached: true })
    expect(guard(write(dir, queue), {}, '/', '-q')).toMatchObject({ status: 2, stderr: expect.stringContaining('is locked by "hourly"') })
  })

  test('without a workspace, locks still count', async () => {
    const dir = tempFolder()
    const { guard } = scene()
    await acquireLock(join(dir, 'a'), { owner: 'hourly', detached: true })
    expect(guard(write(dir, 'a')).status).toBe(2)
    expect(guard(write(dir, 'b')).status).toBe(0)
  })
})

test.each([
  ['not JSON', 'garbage'],
  ['nothing', ''],
  ['half of it', '{"tool_name":"Write","tool_input":{"file_path":"mem'],
  ['a list', '[]'],
  ['null', 'null'],
  ['no input', '{"tool_name":"Write"}'],
  ['wrong types', '{"tool_name":"Write","tool_input":{"file_path":7},"cwd":[],"session_id":{}}'],
  ['a tool that reads', '{"tool_name":"Read","tool_input":{"file_path":"memory/queue.md"}}'],
  ['a tool that nobody knows', '{"tool_name":"mcp__x__write","tool_input":{"path":"memory/queue.md"}}'],
  ['a NUL', '{"tool_name":"Write","tool_input":{"file_path":"memory/queue.md\\u0000"}}'],
  ['a name that is too long', JSON.stringify({ tool_name: 'Write', tool_input: { file_path: 'x'.repeat(10_000) } })],
  ['a folder that is gone', '{"tool_name":"Write","cwd":"/no/such/folder","tool_input":{"file_path":"a"}}'],
  ['substitutions without end', JSON.stringify({ tool_name: 'Bash', tool_input: { command: `echo ${'"$('.repeat(20_000)}` } })],
  ['megabytes', JSON.stringify({ tool_name: 'Bash', tool_input: { command: `echo ${'x'.repeat(6_000_000)}` } })],
  ['a huge file', JSON.stringify({ tool_name: 'Write', tool_input: { file_path: 'free.md', content: 'x'.repeat(3_000_000) } })],
])('what is unclear never blocks: %s', async (_, payload) => {
  const { dir, queue, guard } = scene()
  await acquireLock(queue, { detached: true })
  const { status, stdout, stderr } = guard(payload, {}, dir)
  expect([status, stdout]).toEqual([0, ''])
  expect(stderr).toBe('')
})
