/** The other programs that xferd can be compared with, by the names that `--compare` knows. */
import type { Contender, Load } from './contender.js'
import { nginx } from './nginx.js'
import { rsync } from './rsync.js'
import { scp } from './scp.js'

export const PEERS = ['rsync', 'nginx', 'scp'] as const
export type Peer = (typeof PEERS)[number]

/** Those that can move such a load: nginx takes one file at a time. */
export function peers(names: Peer[], { isTree }: Load): Contender[] {
  const able = names.filter((name) => !(isTree && name === 'nginx'))
  return able.map((name) => MAKERS[name](isTree))
}

const MAKERS: Record<Peer, (isTree: boolean) => Contender> = { rsync, nginx: () => nginx, scp }
