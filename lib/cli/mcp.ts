import { serveStdio } from '../mcp/index.js'
import type { Command } from './command.js'

export const command: Command = {
  usage: 'mcp [options]',
  about:
    'Serves the Model Context Protocol on stdin and stdout, until stdin ends: claim, gate, declare and the other commands as tools, over the ' +
    'same files. Relative paths are relative to the workspace. What a tool gives outlives this server; it ends by its token, or its time.',
  operands: [0, 0],
  options: {},
  examples: ['claude mcp add lockpact -- npx lockpact mcp', 'lockpact mcp --dir ~/memory'],

  async run(_operands, _values, io) {
    if (process.stdin.isTTY) io.say('waiting for messages on stdin, one line of JSON each: this is for programs')
    await serveStdio()
    return 0
  },
}
