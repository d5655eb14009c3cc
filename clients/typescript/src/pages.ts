// Lists that come in pages, read as if they did not.
import type { CallOptions } from "@connectrpc/connect";

/** All pages of a list rpc, those of `operations` among them. The request is left as it is. */
export async function* pages<Request extends { pageToken?: string }, Page extends { nextPageToken: string }, Item>(
  list: (request: Request, options?: CallOptions) => Promise<Page>,
  request: Request,
  items: (page: Page) => Item[],
  options?: CallOptions,
): AsyncGenerator<Item> {
  let pageToken = request.pageToken ?? "";
  do {
    const page = await list({ ...request, pageToken }, options);
    yield* items(page);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}
