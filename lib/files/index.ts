/* The door of this room: what the layers above may use; the public names among these are in `lib/files.ts`. */
export { hashOf, replaceFile, textOf, updateFile, type Updated, type UpdateOptions } from './edit.js'
export type { HoldOptions } from './hold.js'
export { appendLine, type AppendOptions, archiveOf, checkLine, shift, tailLines } from './lines.js'
export { finishItem, type Item, returnItem, type Taken, takeItem, type TakeOptions } from './queue.js'
