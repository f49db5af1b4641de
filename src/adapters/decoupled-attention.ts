/**
 * @file Decoupled cross-attention (IP-Adapter, arXiv 2308.06721, equation 5; tencent-ailab/IP-Adapter
 * ip_adapter/attention_processor.py). A site of the backbone attends to the text c with its frozen weights. The adapter
 * adds a second attention with the same queries Q, to the image tokens c':
 *
 *     Z = softmax(Q Kᵀ / √d) V + scale · softmax(Q K'ᵀ / √d) V'      K' = c' W'ₖ,  V' = c' W'ᵥ
 *
 * Only W'ₖ and W'ᵥ (`to_k_ip` and `to_v_ip`) are trained at a site.
 */
import type { SiteCall } from '../models/layers/attention-site.js';
import { Linear } from '../nn/layers.js';
import { Module } from '../nn/module.js';
import { op, type Tensor } from '../torch/index.js';

const aten = { alias: op('aten::alias(Tensor(a) self) -> Tensor(a)') };

/** Computes the second term without its scale: image tokens [batch, m, contextDim] → [batch, n, innerDim]. */
export class IPAttnProcessor extends Module<[tokens: Tensor, attend: SiteCall['attend']]> {
  to_k_ip: Linear;
  to_v_ip: Linear;

  /** @param innerDim width of the site's keys and values @param contextDim width of the image tokens */
  constructor(innerDim: number, contextDim: number) {
    super();
    this.to_k_ip = new Linear(contextDim, innerDim, { bias: false });
    this.to_v_ip = new Linear(contextDim, innerDim, { bias: false });
  }

  protected override forward(tokens: Tensor, attend: SiteCall['attend']): Tensor {
    // A view for this site: autograd first sums the gradients of its key and value, then those of the sites. So the order
    // of the sums, and with it the last bits, does not depend on what else reads the tokens.
    // The trained weights may be in float32 while the backbone is in half precision.
    const image = aten.alias(tokens).to(this.to_k_ip.weight.dtype);
    return attend(this.to_k_ip.call(image), this.to_v_ip.call(image));
  }
}
