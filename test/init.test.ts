import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { payloads } from './payloads.js'
import { commandPath, has, isRoot, projectFolder, tempFolder } from './support.js'

/* lockpact init: what is there stays, what is ours is brought up to date, and it says what it did. */

const env: NodeJS.ProcessEnv = { ...process.env }
delete env['LOCKPACT_DIR']

interface Report {
  dir: string
  dryRun: boolean
  files: { path: string; did: string; why?: string }[]
  crontab: string[]
  missing: string[]
  templates: string
  code?: string
}

function init(folder: string, args: string[] = [], more: { env?: Record<string, string>; wrap?: string[] } = {}) {
  const [program, ...rest] = [...(more.wrap ?? []), process.execPath, commandPath, 'init', ...args]
  const { status, stdout, stderr } = spawnSync(program!, rest, { cwd: folder, encoding: 'utf8', env: { ...env, ...more.env } })
  return { status, stdout, stderr, json: () => JSON.parse(stdout) as Report }
}

const template = (name: string) => readFileSync(join(projectFolder, 'templates', name), 'utf8')
const put = (folder: string, name: string, text: string) => {
  mkdirSync(dirname(join(folder, name)), { recursive: true })
  writeFileSync(join(folder, name), text)
}
const get = (folder: string, name: string) => readFileSync(join(folder, name), 'utf8')

/** Every file below, with its text. */
function contents(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => statSync(join(folder, name)).isFile())
  return Object.fromEntries(names.sort().map((name) => [name, get(folder, name)]))
}

/** Who did what: `{ 'AGENTS.md': 'kept' }`. */
const did = ({ json }: { json: () => Report }) => Object.fromEntries(json().files.map((file) => [file.path, file.did]))

const CREATED = ['.lockpact/', 'memory/README.md', 'memory/contribution-queue.md', 'memory/todo.md', 'memory/heartbeat-log.md', 'memory/heartbeat-prompt.md', 'memory/agent-notes.md', 'CONTRIBUTING.md', 'AGENTS.md', '.gitignore', '.claude/settings.json', '.claude/skills/lockpact/SKILL.md']

describe('in an empty folder', () => {
  test('makes everything, says so, and leaves no lock behind', () => {
    const folder = tempFolder()
    const { status, stdout, stderr } = init(folder)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    for (const path of CREATED) expect(stdout).toContain(`created  ${path}\n`)
    expect(Object.keys(contents(folder))).toEqual([...CREATED.slice(1), '.lockpact/.gitignore'].sort())
    expect(get(folder, 'memory/todo.md')).toBe(template('memory/todo.md'))
    expect(get(folder, 'AGENTS.md')).toBe(`<!-- lockpact:agents -->\n${template('AGENTS.md')}<!-- /lockpact:agents -->\n`)
    expect(get(folder, '.claude/settings.json')).toBe(template('claude-settings.json'))
  })

  test('the second time keeps everything', () => {
    const folder = tempFolder()
    init(folder)
    const before = contents(folder)
    const again = init(folder, ['--json'])
    expect(new Set(Object.values(did(again)))).toEqual(new Set(['kept']))
    expect(contents(folder)).toEqual(before)
  })

  test('--dry-run tells the same and changes nothing, also of a folder that is not there', () => {
    const folder = tempFolder()
    const told = init(folder, ['new', '--dry-run', '--json'])
    expect(told.json()).toMatchObject({ dryRun: true, dir: join(folder, 'new') })
    expect(readdirSync(folder)).toEqual([])
    expect(init(folder, ['new', '--dry-run']).stdout).toMatch(/^dry run, nothing is changed:\ncreated /)
    const real = init(folder, ['new', '--json'])
    expect(did(real)).toEqual(did(told))
    expect(real.json().files).toEqual(told.json().files)
  })

  test('--json is one object: the folder, what was done, the crontab and what it lacks, where the templates are', () => {
    const folder = tempFolder()
    expect(init(folder, ['--json'], { env: { PATH: folder } }).json()).toEqual({
      dir: folder,
      dryRun: false,
      files: CREATED.map((path) => ({ path, did: 'created' })),
      crontab: [expect.stringMatching(/^PATH=\//), expect.stringMatching(/^0 \* \* \* \* cd /), expect.stringMatching(/^7,27,47 \* \* \* \* cd /)],
      missing: ['lockpact', 'claude'],
      templates: expect.stringMatching(/templates\/$/),
    })
  })

  test('LOCKPACT_DIR says where', () => {
    const folder = tempFolder()
    init(folder, [], { env: { LOCKPACT_DIR: join(folder, 'shared') } })
    expect(readdirSync(folder)).toEqual(['shared'])
  })

  test('two at once do it once', async () => {
    const folder = tempFolder()
    const script = `"$0" "$1" init . & "$0" "$1" init . & "$0" "$1" init . & wait`
    spawnSync('sh', ['-c', script, process.execPath, commandPath], { cwd: folder, env })
    const other = tempFolder()
    init(other)
    expect(contents(folder)).toEqual(contents(other))
  })
})

describe('where there are files', () => {
  test('memory files stay as they are', () => {
    const folder = tempFolder()
    put(folder, 'memory/contribution-queue.md', '- [ ] mine\r\n')
    put(folder, 'memory/README.md', '')
    const report = init(folder, ['--json'])
    expect(did(report)).toMatchObject({ 'memory/contribution-queue.md': 'kept', 'memory/README.md': 'kept', 'memory/todo.md': 'created' })
    expect(get(folder, 'memory/contribution-queue.md')).toBe('- [ ] mine\r\n')
    expect(get(folder, 'memory/README.md')).toBe('')
  })

  test.each([
    ['ends with a line', '# Ours\n\nText.\n', '\n'],
    ['has an open last line', '# Ours', '\n\n'],
    ['is empty', '', ''],
    ['has only half a mark in a sentence', 'See <!-- lockpact:agents --> there.\n', '\n'],
  ])('a section is appended to one that %s', (_, text, gap) => {
    const folder = tempFolder()
    put(folder, 'AGENTS.md', text)
    expect(did(init(folder, ['--json']))['AGENTS.md']).toBe('updated')
    expect(get(folder, 'AGENTS.md')).toBe(`${text}${gap}<!-- lockpact:agents -->\n${template('AGENTS.md')}<!-- /lockpact:agents -->\n`)
    expect(did(init(folder, ['--json']))['AGENTS.md']).toBe('kept')
  })

  test('a section that differs is updated in its place, and nothing else', () => {
    const folder = tempFolder()
    const around = (body: string) => `\uFEFF# Ours\t \n<!-- lockpact:convention -->  \n${body}  <!-- /lockpact:convention -->\n\n\n## After\u2028 it, no last newline`
    put(folder, 'CONTRIBUTING.md', around('old\n'))
    expect(did(init(folder, ['--json']))['CONTRIBUTING.md']).toBe('updated')
    expect(get(folder, 'CONTRIBUTING.md')).toBe(around(template('CONTRIBUTING.md')))
    expect(did(init(folder, ['--json']))['CONTRIBUTING.md']).toBe('kept')
  })

  test.each(['CONTRIBUTING.md', 'AGENTS.md', '.gitignore'])('%s with CRLF stays one with CRLF', (name) => {
    const folder = tempFolder()
    put(folder, name, '# Ours\r\nText\r\n')
    init(folder)
    const text = get(folder, name)
    expect(text).toMatch(/^# Ours\r\nText\r\n\r\n(<!-- lockpact|# lockpact)/)
    expect(text.replaceAll('\r\n', '')).not.toContain('\n')
    put(folder, name, text.replace(/lock files?|locks/i, 'LOOKS'))
    expect(did(init(folder, ['--json']))[name]).toBe('updated')
    expect(get(folder, name)).toBe(text)
    expect(did(init(folder, ['--json']))[name]).toBe('kept')
  })

  test('a section whose end is missing is left alone, and it says so', () => {
    const folder = tempFolder()
    put(folder, '.gitignore', '# lockpact\nnode_modules\n')
    const { stdout, status } = init(folder)
    expect(status).toBe(0)
    expect(stdout).toContain('left     .gitignore: it has # lockpact, but no # /lockpact behind it\n')
    expect(get(folder, '.gitignore')).toBe('# lockpact\nnode_modules\n')
  })

  test('the skill is updated between its marks; one without marks stays', () => {
    const folder = tempFolder()
    const name = '.claude/skills/lockpact/SKILL.md'
    init(folder)
    const whole = get(folder, name)
    put(folder, name, whole.replace('description: ', 'description: OURS ').replace('Working beside', 'Sitting beside'))
    expect(did(init(folder, ['--json']))[name]).toBe('updated')
    expect(get(folder, name)).toBe(whole.replace('description: ', 'description: OURS '))
    put(folder, name, 'ours\n')
    expect(did(init(folder, ['--json']))[name]).toBe('kept')
    expect(get(folder, name)).toBe('ours\n')
  })

  test('symbolic links and modes stay', () => {
    const folder = tempFolder()
    put(folder, 'CLAUDE.md', '# Ours\n')
    chmodSync(join(folder, 'CLAUDE.md'), 0o640)
    symlinkSync('CLAUDE.md', join(folder, 'AGENTS.md'))
    init(folder)
    expect(get(folder, 'CLAUDE.md')).toContain('<!-- lockpact:agents -->')
    expect(get(folder, 'AGENTS.md')).toBe(get(folder, 'CLAUDE.md'))
    expect(statSync(join(folder, 'CLAUDE.md')).mode & 0o777).toBe(0o640)
  })

  test('git ignores locks and leftovers below memory, and no other lock file', () => {
    const folder = tempFolder()
    init(folder)
    spawnSync('git', ['init', '-q'], { cwd: folder })
    const isIgnored = (name: string) => spawnSync('git', ['check-ignore', '-q', name], { cwd: folder }).status === 0
    for (const name of ['memory/todo.md.lock', 'memory/todo.md.lock.guard', 'memory/a/b.md@head.lock', 'memory/todo.md.lock.inner', 'memory/.todo.md.9f2c41d7a0b3e816.tmp', 'memory/.log.md.9f2c41d7a0b3e816.12.add', '.lockpact/slots.json']) expect(isIgnored(name), name).toBe(true)
    for (const name of ['Cargo.lock', 'memory/todo.md', 'memory/lock.md', 'src/yarn.lock']) expect(isIgnored(name), name).toBe(false)
  })
})

describe('.claude/settings.json', () => {
  const NAME = '.claude/settings.json'
  const ours = (JSON.parse(template('claude-settings.json')) as { hooks: Record<string, unknown[]> }).hooks
  const bring = (text: string) => {
    const folder = tempFolder()
    put(folder, NAME, text)
    const report = init(folder, ['--json'])
    const step = report.json().files.find(({ path }) => path === NAME)!
    const again = did(init(folder, ['--json']))[NAME]
    return { ...step, again, text: get(folder, NAME), status: report.status }
  }
  /** What was added, taken out again. */
  const linesOf = (text: string) => text.split('\n').filter((line) => line.trim() !== '')

  test.each([
    ['other keys', '{\n  "permissions": {\n    "allow": ["Bash(ls)", "Read"]\n  },\n  "model": "opus"\n}\n'],
    ['tabs and no last newline', '{\n\t"model": "opus"\n}'],
    ['an empty object', '{}\n'],
    ['an empty object over two lines', '{\n}\n'],
    ['a byte order mark', '\uFEFF{\n    "model": "opus"\n}\n'],
    ['CRLF', '{\r\n  "model": "opus"\r\n}\r\n'],
    ['one line', '{"model":"opus","env":{"A":"}"}}'],
    ['hooks of others', '{\n  "hooks": {\n    "Stop": [\n      { "hooks": [{ "type": "command", "command": "say done" }] }\n    ]\n  },\n  "model": "opus"\n}\n'],
    ['an empty hooks', '{\n  "hooks": {},\n  "model": "opus"\n}\n'],
    ['an empty list', '{\n  "hooks": { "Stop": [] }\n}\n'],
    ['two members of one name', '{\n  "hooks": {"Stop": []},\n  "hooks": {\n    "PreToolUse": []\n  }\n}\n'],
    ['odd strings', '{\n  "a\\"hooks": {"x": "\\\\"},\n  "b": "}]{[,:\\"",\n  "c": [1, -2.5e3, null, true]\n}\n'],
  ])('%s: the hooks are added and every byte stays', (_, text) => {
    const { did, text: after, again } = bring(text)
    expect(did).toBe('updated')
    expect(again).toBe('kept')
    const parse = (json: string) => JSON.parse(json.replace(/^\uFEFF/, '')) as { hooks?: Record<string, unknown[]> }
    const { hooks: hooksBefore = {}, ...before } = parse(text)
    const { hooks = {}, ...rest } = parse(after)
    expect(rest).toEqual(before)
    for (const [event, entries] of Object.entries({ ...hooksBefore, ...ours })) expect(hooks[event]).toEqual([...(hooksBefore[event] ?? []), ...(event in ours && hooksBefore[event] !== entries ? ours[event]! : [])])
    // In the order of their writing, all characters of before are there.
    let at = 0
    for (const character of text.replace(/\s/g, '')) {
      at = after.indexOf(character, at) + 1
      expect(at).toBeGreaterThan(0)
    }
    expect(after.includes('\r\n')).toBe(text.includes('\r\n'))
    if (text.includes('\r\n')) expect(after.replaceAll('\r\n', '')).not.toContain('\n')
  })

  test('what is added is indented as the rest', () => {
    const { text } = bring('{\n    "model": "opus",\n    "hooks": {\n        "Stop": []\n    }\n}\n')
    expect(text).toBe(`${JSON.stringify({ model: 'opus', hooks: { Stop: ours['Stop'], UserPromptSubmit: ours['UserPromptSubmit'], PreToolUse: ours['PreToolUse'] } }, null, 4)}\n`)
  })

  test('hooks of lockpact that somebody has changed stay', () => {
    const text = '{"hooks":{"UserPromptSubmit":[{"hooks":[{"type":"command","command":"npx lockpact gate mine --emit hook"}]}],"PreToolUse":[{"hooks":[{"type":"command","command":"npx lockpact guard"}]}],"Stop":[{"hooks":[{"type":"command","command":"npx lockpact free mine"}]}]}}'
    expect(bring(text)).toMatchObject({ did: 'kept', text })
  })

  test('a hook that is missing is added to one that is there', () => {
    const { hooks } = JSON.parse(template('claude-settings.json')) as { hooks: Record<string, unknown> }
    delete hooks['Stop']
    const before = `${JSON.stringify({ hooks }, null, 2)}\n`
    const { did, text } = bring(before)
    expect(did).toBe('updated')
    expect(text).toBe(template('claude-settings.json'))
    expect(linesOf(text).length).toBeGreaterThan(linesOf(before).length)
  })

  test('an empty file becomes the template', () => {
    expect(bring(' \n')).toMatchObject({ did: 'updated', text: template('claude-settings.json') })
  })

  test.each([
    ['comments', '{\n  // ours\n  "model": "opus"\n}\n', 'not plain JSON'],
    ['no object', '[]\n', 'not a JSON object'],
    ['a number', '1', 'not a JSON object'],
    ['hooks that are a list', '{"hooks":[]}', '"hooks" is not an object'],
    ['an event without a list', '{"hooks":{"Stop":{}}}', 'no list for Stop'],
  ])('with %s it is left as it is, and it says what to add', (_, text, why) => {
    const { text: after, did, why: said, status } = bring(text)
    expect({ after, did, status }).toEqual({ after: text, did: 'left', status: 0 })
    expect(said).toContain(why)
    const folder = tempFolder()
    put(folder, NAME, text)
    expect(init(folder).stdout).toMatch(/^left {5}\.claude\/settings\.json: .*; add the hooks of \S+claude-settings\.json$/m)
  })
})

describe.each([
  { name: '.gemini/settings.json', from: 'gemini-settings.json', event: 'BeforeTool', client: 'Gemini CLI', session: 'LOCKPACT_SESSION' },
  { name: '.codex/hooks.json', from: 'codex-hooks.json', event: 'PreToolUse', client: 'Codex', session: 'CODEX_SESSION_ID' },
])('$name', ({ name, from, event, client, session }) => {
  const ours = (JSON.parse(template(from)) as { hooks: Record<string, { matcher: string; hooks: { command: string }[] }[]> }).hooks
  const used = (text?: string, folder = tempFolder()) => {
    if (text === undefined) mkdirSync(dirname(join(folder, name)), { recursive: true })
    else put(folder, name, text)
    return folder
  }
  const TOLD = 'until you have trusted the folder and, by /hooks, them.'

  test('where that agent is not used, nothing is made and nothing is said', () => {
    const folder = tempFolder()
    expect(init(folder).stdout).not.toContain(dirname(name))
    expect(readdirSync(folder)).not.toContain(dirname(name))
    writeFileSync(join(folder, dirname(name)), 'a file\n')
    const report = init(folder, ['--json'])
    expect(report.status).toBe(0)
    expect(did(report)).not.toHaveProperty([name])
  })

  test('where its folder is, it is the template; the second time it is kept', () => {
    const folder = used()
    expect(did(init(folder, ['--dry-run', '--json']))[name]).toBe('created')
    expect(readdirSync(dirname(join(folder, name)))).toEqual([])
    const { stdout } = init(folder)
    expect(stdout).toContain(`created  ${name}\n`)
    expect(stdout.includes(TOLD)).toBe(client === 'Codex')
    expect(get(folder, name)).toBe(template(from))
    const again = init(folder)
    expect(again.stdout).toContain(`kept     ${name}\n`)
    expect(again.stdout).not.toContain(TOLD)
  })

  test('beside the hooks of others, they are added and every byte stays', () => {
    const lines = ['{', '\t"mine": { "a": [1, 2] },', '\t"hooks": {', `\t\t"${event}": [`, '\t\t\t{ "matcher": "x", "hooks": [{ "type": "command", "command": "say \\"hi\\"" }] }', '\t\t],', '\t\t"SessionStart": []', '\t}', '}']
    const folder = used(lines.join('\n'))
    const { stdout } = init(folder)
    expect(stdout).toContain(`updated  ${name}\n`)
    expect(stdout.includes(TOLD)).toBe(client === 'Codex')
    const [above, below] = [lines.slice(0, 5).join('\n'), lines.slice(5).join('\n')]
    expect(get(folder, name)).toBe(`${above},\n${JSON.stringify(ours[event], null, '\t').split('\n').slice(1, -1).map((line) => `\t\t${line}`).join('\n')}\n${below}`)
    expect(did(init(folder, ['--json']))[name]).toBe('kept')
  })

  test('a hook of lockpact that somebody has changed stays', () => {
    const text = `{"hooks":{"${event}":[{"hooks":[{"type":"command","command":"npx lockpact guard"}]}]}}`
    const folder = used(text)
    expect(did(init(folder, ['--json']))[name]).toBe('kept')
    expect(get(folder, name)).toBe(text)
  })

  test('what is broken is left as it is, and it says what to add', () => {
    const text = '{ "hooks": { // ours\n'
    const folder = used(text)
    const { status, stdout } = init(folder)
    expect(status).toBe(0)
    expect(stdout).toMatch(new RegExp(`^left {5}${name}: it is not plain JSON: .*; add the hooks of \\S+${from}$`, 'm'))
    expect(stdout).not.toContain(TOLD)
    expect(get(folder, name)).toBe(text)
  })

  const calls = Object.entries(payloads).filter(([tool]) => tool.startsWith(client))

  test('the matcher is for the tools that write', () => {
    const { matcher } = ours[event]![0]!
    const tools = calls.map(([, payload]) => payload('/', 'x').tool_name).filter((tool) => tool !== 'shell')
    expect([...new Set(tools)].sort()).toEqual(matcher.split('|').sort())
  })

  test.each([
    ['here', '.', '.'],
    ['above', '.', 'project'],
  ])('lockpact is installed %s: what was installed stops a write to what somebody else holds, in one sentence, and lets the own session through', (_, root, at) => {
    const above = tempFolder()
    const folder = used(undefined, join(above, at))
    put(join(above, root), 'node_modules/.bin/lockpact', `#!/bin/sh\nexec '${process.execPath}' '${commandPath}' "$@"\n`)
    chmodSync(join(above, root, 'node_modules/.bin/lockpact'), 0o755)
    init(folder)
    mkdirSync(join(folder, 'docs/deep'), { recursive: true })
    const { hooks } = JSON.parse(get(folder, name)) as { hooks: typeof ours }
    const outer = { PATH: `${process.env['PATH']}:/a folder`, HOME: folder }
    // Gemini CLI reads its settings only where it was started; Codex, those above, too.
    const places = client === 'Codex' ? [folder, join(folder, 'docs/deep')] : [folder]
    // Gemini CLI puts variables of its own environment in by itself, as they are.
    const command = hooks[event]![0]!.hooks[0]!.command.replace('$PATH', client === 'Codex' ? '$PATH' : outer.PATH)
    const fire = (cwd: string, payload: object, more = {}) => spawnSync('bash', ['-c', command], { cwd, encoding: 'utf8', input: JSON.stringify(payload), env: { ...outer, ...more } })
    const file = join(folder, 'memory/todo.md')
    const lock = (args: string[], env: Record<string, string>) => expect(spawnSync(process.execPath, [commandPath, ...args, file, '-q'], { cwd: folder, env: { ...outer, ...env } }).status).toBe(0)
    const each = (check: (result: ReturnType<typeof fire>, tool: string) => void, more = {}) => {
      for (const cwd of places) for (const [tool, payload] of calls) check(fire(cwd, payload(cwd, file), more), `${tool} in ${cwd}`)
    }

    each(({ status, stdout, stderr }, tool) => expect({ status, stdout, stderr }, tool).toEqual({ status: 0, stdout: '', stderr: '' }))
    lock(['acquire', '--owner', 'hourly'], { LOCKPACT_SESSION: 'other' })
    each(({ status, stdout, stderr }, tool) => {
      expect({ status, stdout }, tool).toEqual({ status: 2, stdout: '' })
      expect(stderr, tool).toMatch(/^lockpact: \S+todo\.md is locked by "hourly" [^\n]*\n$/)
    })
    lock(['release'], { LOCKPACT_SESSION: 'other' })
    // As that agent names itself to its shell; the payloads are of s1.
    lock(['acquire'], { [session]: 's1' })
    const more = session === 'LOCKPACT_SESSION' ? { [session]: 's1' } : {}
    each(({ status, stdout, stderr }, tool) => expect({ status, stdout, stderr }, tool).toEqual({ status: 0, stdout: '', stderr: '' }), more)
  })

  test('where lockpact is not installed, nothing is blocked', () => {
    const folder = used()
    init(folder)
    const { status } = spawnSync('/bin/sh', ['-c', ours[event]![0]!.hooks[0]!.command], { cwd: folder, input: '{}', env: { PATH: '/usr/bin:/bin' } })
    expect(status).toBe(127)
  })
})

describe('the crontab lines', () => {
  test('are for this folder, whatever its name, and for the PATH of this shell', () => {
    const folder = tempFolder()
    const dir = join(folder, "it's 100% \"mine\" $HOME")
    mkdirSync(dir)
    mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true })
    mkdirSync(join(folder, 'tools'))
    for (const place of ['node_modules/.bin', 'tools']) put(folder, `${place}/claude`, '')
    const path = [join(folder, 'node_modules/.bin'), join(folder, 'tools'), dirname(process.execPath)].join(':')
    const { crontab } = init(folder, [dir, '--json'], { env: { PATH: path } }).json()
    expect(crontab[0]).toBe(`PATH=${[...new Set([dirname(process.execPath), join(folder, 'tools'), '/usr/local/bin', '/usr/bin', '/bin'])].join(':')}`)
    for (const line of crontab.slice(1)) {
      expect(line).not.toMatch(/(?<!\\)%/)
      const change = /^(?:\S+ ){5}(cd .*?) && /.exec(line)![1]!.replaceAll('\\%', '%')
      expect(spawnSync('sh', ['-c', `${change} && pwd`], { encoding: 'utf8' }).stdout).toBe(`${dir}\n`)
      expect(spawnSync('sh', ['-n', '-c', line.replace(/^(\S+ ){5}/, '').replaceAll('\\%', '%')]).status).toBe(0)
    }
  })

  test('start lockpact from where it is installed, and say when it is not', () => {
    const folder = tempFolder()
    expect(init(folder).stdout).toContain(`lockpact is not installed in ${folder}: run npm install ${projectFolder.replace(/\/$/, '')} there`)
    put(folder, 'node_modules/.bin/lockpact', '')
    mkdirSync(join(folder, 'below'))
    for (const [dir, launcher] of [['.', 'node_modules/.bin/lockpact'], ['below', `${folder}/node_modules/.bin/lockpact`]] as const) {
      const { stdout } = init(folder, [dir])
      expect(stdout).not.toContain('not installed')
      expect(stdout).toContain(` && ${launcher} run `)
    }
    // So do the hooks, which go where the project goes.
    expect(get(folder, '.claude/settings.json')).toBe(template('claude-settings.json'))
    expect(get(folder, 'below/.claude/settings.json')).toBe(template('claude-settings.json').replaceAll('node_modules', '../node_modules'))
    const other = tempFolder()
    put(other, 'bin/lockpact', '')
    const { crontab } = init(other, ['--json'], { env: { PATH: `${other}/bin:${process.env['PATH']}` } }).json()
    expect(crontab[0]).toContain(`${other}/bin`)
    expect(crontab[1]).toContain(' && lockpact run ')
  })

  test('say which agent they start, what to put in its place, and that it is not there', () => {
    const folder = tempFolder()
    const claude = (PATH: string) => init(folder, [], { env: { PATH } }).stdout.split('\n').find((line) => line.startsWith('They start claude -p'))!
    expect(claude(folder)).toMatch(/not on your PATH.*another agent.*behind the --/)
    put(folder, 'claude', '')
    expect(claude(folder)).toMatch(/^(?!.*not on your PATH).*another agent/)
  })
})

describe('what cannot be', () => {
  test('in a folder of a workspace it refuses, unless that folder is named', () => {
    const folder = tempFolder()
    init(folder)
    mkdirSync(join(folder, 'sub'))
    const refused = init(join(folder, 'sub'))
    expect(refused.status).toBe(64)
    expect(refused.stderr).toContain(`in the workspace ${folder}: lockpact init ${folder}`)
    expect(readdirSync(join(folder, 'sub'))).toEqual([])
    expect(init(join(folder, 'sub'), ['.']).status).toBe(0)
  })

  test.each([
    ['.lockpact', []],
    ['.lockpact', ['--dry-run']],
    ['memory', []],
    ['memory', ['--dry-run']],
    ['.claude', []],
  ])('a file where the folder %s should be: 73, and what was done before (%j)', (name, args) => {
    const folder = tempFolder()
    put(folder, name, 'a file\n')
    const { status, stdout, stderr } = init(folder, args)
    expect(status).toBe(73)
    expect(stderr).toContain(name)
    if (name === '.lockpact') expect(stderr).toBe(`lockpact: ${folder}/.lockpact is not a folder: move it away, and run lockpact init again\n`)
    expect(get(folder, name)).toBe('a file\n')
    if (name === '.claude') expect(stdout).toContain('created  AGENTS.md')
    expect(init(folder, [...args, '--json']).json()).toMatchObject({ dir: expect.any(String), code: expect.stringMatching(/^E(EXIST|NOTDIR)$/), files: expect.any(Array) })
    // Out of the way, it goes on where it was.
    rmSync(join(folder, name))
    expect(init(folder).status).toBe(0)
  })

  test('a folder where a file should be: 73, and it is named', () => {
    const folder = tempFolder()
    mkdirSync(join(folder, 'AGENTS.md'))
    const { status, stderr } = init(folder)
    expect(status).toBe(73)
    expect(stderr).toContain('AGENTS.md')
  })

  test('a file that is no text: it is left as it is', () => {
    const folder = tempFolder()
    writeFileSync(join(folder, 'AGENTS.md'), Buffer.from([0xff, 0xfe, 0x41]))
    const { status, stderr } = init(folder)
    expect([64, 65]).toContain(status)
    expect(stderr).toContain('not UTF-8')
    expect(readFileSync(join(folder, 'AGENTS.md'))).toEqual(Buffer.from([0xff, 0xfe, 0x41]))
  })

  test('a file that somebody has locked: 75, with their name', () => {
    const folder = tempFolder()
    put(folder, 'AGENTS.md', '# Ours\n')
    spawnSync(process.execPath, [commandPath, 'acquire', 'AGENTS.md', '--owner', 'the hourly job'], { cwd: folder })
    const { status, stderr } = init(folder)
    expect(status).toBe(75)
    expect(stderr).toContain('"the hourly job"')
    expect(get(folder, 'AGENTS.md')).toBe('# Ours\n')
  })

  test('a folder that it may not write to: 77', ({ skip }) => {
    const wrap = isRoot ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : []
    skip(isRoot && !has('setpriv'), 'root may write everywhere, and there is no setpriv')
    const folder = tempFolder()
    chmodSync(folder, 0o555)
    const { status, stderr, stdout } = init(folder, [], { wrap })
    chmodSync(folder, 0o755)
    skip(stderr.includes('MODULE_NOT_FOUND') || stderr.includes('EACCES: permission denied, open'), 'the other user may not read this project')
    expect({ status, stdout }).toEqual({ status: 77, stdout: '' })
    expect(stderr).toContain('EACCES')
    expect(existsSync(join(folder, '.lockpact'))).toBe(false)
  })

  test('two folders are one too many: 64', () => {
    expect(init(tempFolder(), ['a', 'b']).status).toBe(64)
  })
})
