import * as Args from '@oclif/core/args'
import { parseAddresses } from '../command.js'
import { TransferCommand, transferFlags } from '../transfer-command.js'

export class Pull extends TransferCommand {
  static override summary = 'Fetch files and folders from a server.'
  static override description =
    'A destination that ends with a slash or exists as a folder gets them put into it; otherwise it is the new name. A file ' +
    'appears under its name once all of it has arrived and been proven; until then an existing one stays as it was. A file ' +
    'whose size and modification time are those of the one that is there already is not fetched again.\n\n' +
    'Sizes and rates are decimal: 1 MB is 1,000,000 bytes.'
  static override usage = 'pull xfer://HOST[:PORT]/PATH… DESTINATION'
  static override examples = [
    '<%= config.bin %> pull xfer://nas/films/movie.mkv .',
    '<%= config.bin %> pull xfer://nas/backup/photos ~/ --include "*.jpg" --streams 4',
  ]
  static override args = {
    path: Args.string({
      required: true,
      multiple: true,
      ignoreStdin: true,
      description: 'what to fetch: xfer://HOST[:PORT]/PATH',
    }),
    destination: Args.string({ required: true, ignoreStdin: true, description: 'where to put it' }),
  }
  static override flags = transferFlags

  override async run(): Promise<unknown> {
    const { args, flags } = await this.parse(Pull)
    const { server, paths } = parseAddresses(args.path)
    return this.transfer('pulled', server, flags, (client, options) =>
      client.pull(paths, args.destination, options),
    )
  }
}
