import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { plain } from '../core/index.js'
import { textOf, updateFile } from '../files/index.js'
import { type Command, EXIT, text, usageError } from './command.js'
import { holdingOf, holdOptions } from './files.js'
import { workspaceIfAny } from './session.js'

export const command: Command = {
  usage: 'edit FILE [options] -- COMMAND…',
  about:
    "Changes a text file by a command, under the file's lock: the old text is its stdin, what it prints is the new text, which replaces " +
    'the file in one step. When it fails, nothing is changed. No shell comes between. Prints the SHA-256 of the new text, for --if-hash.',
  operands: [1, 1],
  takesCommand: true,
  options: {
    'if-hash': { value: 'H', about: 'only when the old text has this SHA-256 (sha256sum FILE): that which you have read' },
    empty: { about: 'let the new text be empty: else a command that prints nothing is taken for a mistake' },
    ...holdOptions,
  },
  examples: ["lockpact edit memory/roster.md -- sed 's/- \\[ \\] presence/- [x] presence/'", 'lockpact edit memory/notes.md --if-hash "$HASH" -- cat new-notes.md'],
  notes: ["that of COMMAND when it fails (128+n after a signal), 126/127 when it cannot be", 'started; 75 also when the text is not that of --if-hash'],

  async run([file], values, io, [name, ...args]) {
    if (name === undefined) throw usageError(`a command is missing: lockpact ${command.usage}`)
    try {
      let isChanged = false
      const { file: path, hash } = await updateFile(
        file!,
        async (before) => {
          const after = await filter(name, args, before)
          if (after === '' && before !== '' && values['empty'] !== true) throw new Failed(EXIT.badData, `${plain(name)} printed nothing (is that meant? --empty)`)
          isChanged = after !== before
          return isChanged ? after : undefined
        },
        { ...holdingOf(workspaceIfAny(), file!, values), ifHash: text(values, 'if-hash') },
      )
      io.print({ changed: isChanged, file: path, hash }, hash)
      io.say(isChanged ? `changed ${path}` : `${path} stays as it is`)
      return EXIT.done
    } catch (error) {
      if (!(error instanceof Failed)) return io.fail(error, { changed: false })
      if (io.json) io.print({ changed: false, status: error.status, message: error.message }, '')
      io.say(error.message)
      return error.status
    }
  },
}

class Failed extends Error {
  constructor(
    readonly status: number,
    how: string,
  ) {
    super(`${how}; nothing was changed`)
  }
}

async function filter(name: string, args: string[], before: string): Promise<string> {
  const child = spawn(name, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  // One that does not read its stdin.
  child.stdin.on('error', () => {}).end(before)
  const [code, signal] = (await once(child, 'close').catch((error: NodeJS.ErrnoException) => {
    throw new Failed(error.code === 'ENOENT' ? 127 : 126, `${plain(name)} could not be started (${error.code ?? 'EIO'})`)
  })) as [number | null, NodeJS.Signals | null]
  if (signal !== null) throw new Failed(128 + process.getBuiltinModule('node:os').constants.signals[signal], `${plain(name)} was ended by ${signal}`)
  if (code !== 0) throw new Failed(code!, `${plain(name)} failed with ${code}`)
  return textOf(Buffer.concat(chunks), `what ${plain(name)} printed`)
}
