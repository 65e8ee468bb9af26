"""Features of DenseNet121's backbone in inference mode."""

import common


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()

    import torch

    common.prepare(options)
    model = common.network(options).eval()
    # The classifier becomes the identity, so that the model gives pooled features and is compiled as a whole.
    model.classifier = torch.nn.Identity()
    pixels, _ = common.images(options)

    def batch():
        with torch.inference_mode(), common.autocast(options):
            return model(pixels)

    def work(batches):
        for _ in range(batches):
            batch()
        return {"images": batches * options.batch}

    work(options.warm_up)
    common.serve(options, work, {"features": batch()[0].float().cpu().tolist()})


if __name__ == "__main__":
    main()
