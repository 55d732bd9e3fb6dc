import { readFile } from 'node:fs/promises'
import { type KvOptions, XferdError } from '../src/index.js'

/** Which keys make room for others. */
export const KV_POLICIES = [
  'noeviction',
  'allkeys-lru',
  'allkeys-lfu',
  'volatile-ttl',
] as const satisfies NonNullable<KvOptions['policy']>[]

/** When what was recorded is synchronised to disk. */
export const KV_FSYNCS = ['always', 'everysec', 'no'] as const satisfies NonNullable<KvOptions['fsync']>[]

/** A number of bytes with Redis's units: `1gb` is 2³⁰ bytes, `1g` 10⁹. */
export function parseBytes(text: string): number {
  const [, number = '', unit = ''] = /^(\d+)([kmgt]?b?)$/i.exec(text) ?? []
  const power = ' kmgt'.indexOf(unit[0]?.toLowerCase() ?? ' ')
  const bytes = Number(number) * (unit.length === 2 ? 1024 : 1000) ** Math.max(power, 0)
  if (number === '' || !Number.isSafeInteger(bytes) || bytes < 1) {
    throw new XferdError(
      'INVALID_ARGUMENT',
      `${JSON.stringify(text)} is not a number of bytes; write 1000000, 100mb or 2gb`,
    )
  }
  return bytes
}

/** The password that a file holds. */
export async function firstLine(file: string): Promise<string> {
  const [line = ''] = (await readFile(file, 'utf8')).split(/\r?\n/)
  return line
}
