/**
 * Changes of shared files, each under the file's lock: replace ({@link updateFile}), append ({@link appendLine}), a Markdown list as a
 * queue ({@link takeItem}). A process that is killed anywhere leaves the old text or the new one, and nothing that the next call does
 * not clear away.
 *
 * @module
 */
export { hashOf, updateFile, type Updated, type UpdateOptions } from './files/index.js'
export type { HoldOptions } from './files/index.js'
export { appendLine, type AppendOptions, tailLines } from './files/index.js'
export { finishItem, type Item, returnItem, type Taken, takeItem, type TakeOptions } from './files/index.js'

