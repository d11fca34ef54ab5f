import { show } from '../core/index.js'

/** As much of JSON Schema (2020-12) as the tools say things with. */
export interface Schema {
  type?: string
  description?: string
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: false | Schema
  items?: Schema
  enum?: unknown[]
  const?: unknown
  minimum?: number
  maximum?: number
  oneOf?: Schema[]
  anyOf?: Schema[]
}

// ---- saying ----

/*
 * A name that ends in `?` may be left out. There are no nulls: what nobody knows is left out, which every client understands.
 */

/** What a tool takes. */
export function takes(properties: Record<string, Schema>): Schema {
  return { type: 'object', ...shape(properties), additionalProperties: false }
}

/** What a tool gives; `flag` says whether it did what it was asked for, or (a refusal is an answer) not. */
export function gives(flag: string, granted: Record<string, Schema>, refused?: Record<string, Schema>): Schema {
  const branch = (is: boolean, own: Record<string, Schema>) => ({ properties: { [flag]: { const: is } }, required: [flag, ...shape(own).required] })
  return {
    type: 'object',
    properties: { [flag]: { type: 'boolean' }, ...shape(granted).properties, ...shape(refused ?? {}).properties },
    ...(refused ? { required: [flag], oneOf: [branch(true, granted), branch(false, refused)] } : { required: branch(true, granted).required }),
  }
}

export function object(properties: Record<string, Schema>, description?: string): Schema {
  return { type: 'object', ...shape(properties), ...(description !== undefined && { description }) }
}

/** New values for any of these; null: without. Who gets them says what is wrong with them. */
export function patch(properties: Record<string, Schema>, description: string): Schema {
  const fields = Object.entries(shape(properties).properties).map(([name, schema]) => [name, either(schema, { type: 'null' })])
  return { type: 'object', description, properties: Object.fromEntries(fields) as Record<string, Schema> }
}

function shape(properties: Record<string, Schema>): { properties: Record<string, Schema>; required: string[] } {
  const names = Object.keys(properties)
  return {
    properties: Object.fromEntries(names.map((name) => [name.replace('?', ''), properties[name]!])),
    required: names.filter((name) => !name.endsWith('?')),
  }
}

export const text = (description?: string): Schema => ({ type: 'string', ...(description !== undefined && { description }) })
/** Several of them: `'owner? since?'`. */
export const texts = (names: string): Record<string, Schema> => Object.fromEntries(names.split(' ').map((name) => [name, text()]))
export const choice = (description: string, ...words: string[]): Schema => ({ ...text(description), enum: words })
export const number = (description: string, minimum: number, maximum: number): Schema => ({ type: 'number', description, minimum, maximum })
/** Not a list of types in one schema, which not every client understands. */
export const either = (...anyOf: Schema[]): Schema => ({ anyOf })
export const list = (items: Schema, description?: string): Schema => ({ type: 'array', items, ...(description !== undefined && { description }) })

// ---- checking ----

/** What is wrong with a value: that it is not of the kind at all, or only out of bounds. */
export interface Problem {
  kind: 'shape' | 'bounds'
  message: string
}

/** The first problem, those of shape before those of bounds; undefined when it is as the schema says. */
export function problemIn(schema: Schema, value: unknown, name = 'arguments'): Problem | undefined {
  const found = [...problems(schema, value, name)]
  return found.find(({ kind }) => kind === 'shape') ?? found[0]
}

function* problems(schema: Schema, value: unknown, name: string): Generator<Problem> {
  const { type, properties = {}, required = [], items, additionalProperties } = schema
  if (!isOf(type, value) || (schema.enum && !schema.enum.includes(value))) {
    return yield { kind: 'shape', message: `${name} must be ${schema.enum?.join(' or ') ?? `of type ${type}`}, not ${show(value)}` }
  }
  // What is in an open one, who gets it checks.
  if (type === 'object' && additionalProperties === false) {
    const given = value as Record<string, unknown>
    for (const each of required) if (!Object.hasOwn(given, each)) yield { kind: 'shape', message: `${each} is missing` }
    for (const [each, inner] of Object.entries(given)) {
      if (Object.hasOwn(properties, each)) yield* problems(properties[each]!, inner, each)
      else yield { kind: 'shape', message: `there is no argument ${show(each)}; there are ${Object.keys(properties).join(', ')}` }
    }
  }
  if (items) for (const [index, item] of (value as unknown[]).entries()) yield* problems(items, item, `${name}[${index}]`)
  const { minimum, maximum } = schema
  if (typeof value === 'number' && (value < (minimum ?? value) || value > (maximum ?? value))) yield { kind: 'bounds', message: `${name} must be from ${minimum} to ${maximum}, not ${value}` }
}

function isOf(type: Schema['type'], value: unknown): boolean {
  switch (type) {
    case 'array':
      return Array.isArray(value)
    case 'object':
      return isObject(value)
    default:
      return typeof value === type
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
