/*
 * What the tests of `lockpact/files` share: child processes that have its names, and what a crash may leave.
 */
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Child, projectFolder, startNode } from './support.js'

const filesUrl = pathToFileURL(join(projectFolder, 'dist/files.js')).href

/** As {@link startNode}, with the names of `lockpact/files`, `fs`, and `told()`, which waits for a line on stdin. */
export function startFiles(body: string, options: Parameters<typeof startNode>[1] = {}): Child {
  return startNode(
    `import * as fs from 'node:fs'
import { createInterface } from 'node:readline'
import { appendLine, finishItem, hashOf, returnItem, tailLines, takeItem, updateFile } from ${JSON.stringify(filesUrl)}
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const told = async () => (await lines.next()).value
${body}
process.stdin.destroy()`,
    options,
  )
}

export const sha256 = (bytes: string | Buffer) => createHash('sha256').update(bytes).digest('hex')

/** Everything in a folder but these. */
export const besides = (folder: string, ...names: string[]) => readdirSync(folder).filter((name) => !names.includes(name))
