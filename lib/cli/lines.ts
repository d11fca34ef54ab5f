import { locate, plain } from '../core/index.js'
import { appendLine, tailLines } from '../files/index.js'
import { type Command, count, usageError } from './command.js'
import { holdingOf, holdOptions } from './files.js'
import { workspaceIfAny } from './session.js'

export const append: Command = {
  usage: 'append FILE TEXT… [options]',
  about: "Adds one line to a file, with the time (UTC) before it, under the file's lock; prints the line.",
  operands: [2, Infinity],
  options: {
    rotate: { value: 'BYTES', about: 'rename FILE to FILE.1 (log.md to log.1.md) before it grows beyond this' },
    keep: { value: 'N', about: 'so many of those, the oldest goes (default: all)' },
    ...holdOptions,
  },
  examples: ['lockpact append memory/heartbeat-log.md "hourly: shipped the reply"', 'lockpact append memory/heartbeat-log.md "nothing new" --rotate 100000'],

  async run([file, ...words], values, io) {
    try {
      const [bytes, keep] = [count(values, 'rotate', 'a number of bytes'), count(values, 'keep', 'a number of files')]
      if (keep !== undefined && bytes === undefined) throw usageError('--keep is about --rotate BYTES; give that too')
      const rotate = bytes === undefined ? undefined : { bytes, ...(keep !== undefined && { keep }) }
      const line = await appendLine(file!, words.join(' '), { ...holdingOf(workspaceIfAny(), file!, values), rotate })
      io.print({ appended: true, file: locate(file!).file, line }, plain(line))
      return 0
    } catch (error) {
      return io.fail(error, { appended: false })
    }
  },
}

export const tail: Command = {
  usage: 'tail FILE [-n N] [options]',
  about: 'The last lines of a file, the oldest first, those that were rotated away included.',
  operands: [1, 1],
  options: { lines: { short: 'n', value: 'N', about: 'how many (default 20)' } },
  examples: ['lockpact tail memory/heartbeat-log.md -n 5'],

  async run([file], values, io) {
    const { lock } = holdingOf(workspaceIfAny(), file!, values)
    const lines = await tailLines(file!, count(values, 'lines', 'a number of lines'), { lock })
    io.print({ file: locate(file!).file, lines }, lines.map(plain).join('\n'))
    if (lines.length === 0) io.say(`no lines in ${file}`)
    return 0
  },
}
