# Writes what test_losses.py compares with: the rows of glmnet's PoissonExample, and paths on them, a line for each λ
# with alpha, lambda, the intercept and the weights, in the columns' own units. Rscript losses.R FOLDER
if (!requireNamespace("glmnet", quietly = TRUE)) quit(status = 3)
folder <- commandArgs(trailingOnly = TRUE)[1]
data(PoissonExample, package = "glmnet")
x <- PoissonExample$x
y <- PoissonExample$y

write_numbers <- function(numbers, name) {
  file <- gzfile(file.path(folder, paste0(name, ".csv.gz")), "w")
  for (i in seq_len(nrow(numbers))) cat(sprintf("%.17g", numbers[i, ]), sep = c(rep(",", ncol(numbers) - 1), "\n"), file = file)
  close(file)
}

path <- function(y, family, ...) {
  lines <- lapply(c(1, 0.5), function(alpha) {
    fit <- glmnet::glmnet(x, y, family, alpha = alpha, thresh = 1e-14, maxit = 1e7, ...)
    cbind(alpha, fit$lambda, t(as.matrix(coef(fit))))
  })
  do.call(rbind, lines)
}

write_numbers(cbind(x, y), "rows")
write_numbers(path(y, "poisson"), "poisson")
# A count and a half is a number above 0. Of families that are functions glmnet stops some distance away, with warnings.
write_numbers(suppressWarnings(path(y + 0.5, Gamma(link = "log"), nlambda = 20)), "gamma")
